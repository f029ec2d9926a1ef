"""Who speaks when: shares by position, transitions, and sequences with their treatment effect.

Values of finished traces and their scores only (paper, figure 5). Knows nothing of models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np

from langgraph_switch.trace import Trace

START, END = "start", "end"
_RESAMPLES = 1000
_TAIL = 2.5


@dataclass(frozen=True, slots=True)
class SequenceEffect:
    """How often speakers follow each other so, and how responses with it score."""

    sequence: tuple[str, ...]
    responses: int
    """Responses that contain it."""
    share: float
    """Of all responses."""
    effect: float | None
    """Mean score of responses that contain it less that of those that do not."""
    low: float | None
    high: float | None
    """95 % bootstrap interval of the effect."""


def speakers(trace: Trace) -> list[str]:
    """Return who wrote each segment; cues and empty segments are nobody's choice."""
    return [one.speaker for one in trace.segments if one.decided_by != "cue" and one.token_ids]


def shares_by_position(
    traces: Sequence[Trace], names: Sequence[str], *, num_bins: int = 10
) -> list[list[float]]:
    """Return, per tenth of the response (say), the share of tokens by each candidate."""
    counts = np.zeros((num_bins, len(names)))
    index = {name: i for i, name in enumerate(names)}
    for trace in traces:
        writers = [one.speaker for one in trace.segments for _ in one.token_ids]
        for position, writer in enumerate(writers):
            counts[position * num_bins // len(writers), index[writer]] += 1
    totals = counts.sum(axis=1, keepdims=True)
    shares: list[list[float]] = (counts / np.maximum(totals, 1)).tolist()
    return shares


def transitions(traces: Sequence[Trace], names: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return how often each speaker followed each; rows begin with the response's start."""
    found = {before: dict.fromkeys((*names, END), 0) for before in (START, *names)}
    for trace in traces:
        for before, after in pairwise([START, *speakers(trace), END]):
            if after in found[before]:
                found[before][after] += 1
    return found


def sequence_effects(
    traces: Sequence[Trace], scores: Sequence[float | None], *, length: int, seed: int = 0
) -> list[SequenceEffect]:
    """Return every sequence of speakers of a length, the most frequent first.

    A treatment effect is a difference of means; a cause only where speakers were drawn by lot.
    """
    known = [(t, s) for t, s in zip(traces, scores, strict=True) if s is not None]
    contained = [_sequences(trace, length) for trace, _ in known]
    values = np.array([score for _, score in known])
    counts = Counter(sequence for some in contained for sequence in some)
    return [
        _effect(sequence, np.array([sequence in some for some in contained]), values, seed)
        for sequence, _ in counts.most_common()
    ]


def longest_turns(traces: Sequence[Trace], names: Sequence[str]) -> dict[str, float]:
    """Return by candidate how many segments it keeps the floor on average."""
    turns: dict[str, list[int]] = {name: [] for name in names}
    for trace in traces:
        for name, group in groupby(speakers(trace)):
            turns[name].append(len(list(group)))
    return {name: sum(found) / len(found) if found else 0.0 for name, found in turns.items()}


def _sequences(trace: Trace, length: int) -> set[tuple[str, ...]]:
    found = speakers(trace)
    return {tuple(found[i : i + length]) for i in range(len(found) - length + 1)}


def _effect(
    sequence: tuple[str, ...], has_it: np.ndarray, values: np.ndarray, seed: int
) -> SequenceEffect:
    """Return one sequence's effect; None where all responses, or none, contain it."""
    number, total = int(has_it.sum()), len(values)
    if number in {0, total}:
        return SequenceEffect(sequence, number, number / total, None, None, None)
    drawn = np.random.default_rng(seed).integers(0, total, (_RESAMPLES, total))
    treated, score = has_it[drawn], values[drawn]
    num_treated = treated.sum(axis=1)
    usable = (num_treated > 0) & (num_treated < total)
    with_it = (score * treated).sum(axis=1)[usable] / num_treated[usable]
    without = (score * ~treated).sum(axis=1)[usable] / (total - num_treated[usable])
    low, high = np.percentile(with_it - without, [_TAIL, 100 - _TAIL])
    effect = float(values[has_it].mean() - values[~has_it].mean())
    return SequenceEffect(sequence, number, number / total, effect, float(low), float(high))
