"""Who has the floor, for how long, and when a response ends: rules over traces alone.

Knows nothing of models, prompts or graphs.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from langgraph_switch.blocks import has_open_block
from langgraph_switch.config import Sampling, SwitchConfig
from langgraph_switch.stops import find_stop
from langgraph_switch.trace import DecidedBy, ResponseEnd, Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Who writes the next segment of a trace, and why."""

    speaker: str
    decided_by: DecidedBy
    probabilities: tuple[float, ...] | None = None
    decide_s: float = 0.0


def silent_candidates(trace: Trace) -> frozenset[str]:
    """Return who said nothing since somebody last wrote: they are not asked again yet."""
    silent = set()
    for segment in reversed(trace.segments):
        if segment.token_ids:
            break
        if segment.finish_reason != "failed":
            silent.add(segment.speaker)
    return frozenset(silent)


def recent_failures(trace: Trace) -> Counter[str]:
    """Return how often each candidate has failed since somebody last ended a segment well."""
    failures: Counter[str] = Counter()
    for segment in reversed(trace.segments):
        if segment.finish_reason == "failed":
            failures[segment.speaker] += 1
        elif segment.token_ids and segment.decided_by != "cue":
            break
    return failures


def is_stuck(trace: Trace, config: SwitchConfig) -> bool:
    """Return whether everybody who could go on has failed, each as often as the others."""
    failures = recent_failures(trace)
    if not failures or trace.is_finished:
        return False
    counts = {failures[name] for name in _not_silent(trace, config)}
    return len(counts) == 1 and 0 not in counts


def stand_in(
    trace: Trace,
    config: SwitchConfig,
    *,
    probabilities: tuple[float, ...] | None = None,
    away: Collection[str] = (),
) -> Decision:
    """Return who goes on in place of somebody who cannot.

    Of those who have failed least: whom the switcher thought most probable; the anchor, where it
    was not asked; the first of the configuration.

    Args:
        trace: The response so far.
        config: The rules.
        probabilities: What the switcher said; by default what it said of a segment that failed.
        away: Who is asked only if nobody else is left.
    """
    if probabilities is None and recent_failures(trace):
        probabilities = trace.segments[-1].probabilities
    failures = recent_failures(trace)
    open_to = _not_silent(trace, config) or list(config.names)
    least = min(failures[name] for name in open_to)
    open_to = [name for name in open_to if failures[name] == least]
    open_to = [name for name in open_to if name not in away] or open_to
    weights = dict(zip(config.names, probabilities or [0.0] * len(config.names), strict=True))
    speaker = max(open_to, key=lambda name: (weights[name], name == config.anchor_name))
    return Decision(speaker=speaker, decided_by="failover", probabilities=probabilities)


def _not_silent(trace: Trace, config: SwitchConfig) -> list[str]:
    silent = silent_candidates(trace)
    return [name for name in config.names if name not in silent]


def is_last_segment(trace: Trace, config: SwitchConfig) -> bool:
    """Return whether the next segment, at full length, uses the token limit up."""
    return trace.num_tokens_left <= config.segment.max_tokens


def ruled_decision(trace: Trace, config: SwitchConfig) -> Decision | None:
    """Return whose turn it is where a rule says so and nobody is asked."""
    if (failed := recent_failures(trace)) and (
        trace.segments[-1].finish_reason == "failed"
        or failed.keys() | silent_candidates(trace) >= set(config.names)
    ):
        return stand_in(trace, config)
    if _is_inside_block(trace, config):
        return Decision(speaker=trace.segments[-1].speaker, decided_by="block")
    is_first = _anchor_opens(trace, config) and not trace.segments
    is_last = config.anchor.last and is_last_segment(trace, config)
    if not (is_first or is_last) or config.anchor_name in silent_candidates(trace):
        return None
    if config.anchor_name in failed:
        return None
    return Decision(speaker=config.anchor_name, decided_by="anchor")


def _anchor_opens(trace: Trace, config: SwitchConfig) -> bool:
    has_result = bool(trace.messages) and trace.messages[-1].role == "tool"
    return (
        config.anchor.first
        or trace.grammar is not None
        or (has_result and config.tools.anchor_after_result)
    )


def _is_inside_block(trace: Trace, config: SwitchConfig) -> bool:
    """Return whether the last speaker has begun what nobody else should have to finish."""
    if not trace.segments or not trace.segments[-1].token_ids:  # Who is silent has given up.
        return False
    if trace.grammar is not None:  # All of it is one block.
        return True
    return bool(config.segment.keep_blocks or trace.tools) and has_open_block(trace.text)


def needs_cue(trace: Trace, config: SwitchConfig) -> bool:
    """Return whether the answer cue belongs before the next segment."""
    return (
        config.answer_cue is not None
        and bool(trace.segments)
        and is_last_segment(trace, config)
        and not any(segment.decided_by == "cue" for segment in trace.segments)
        and trace.grammar is None
    )


def draw_speaker(
    names: Sequence[str],
    probabilities: Sequence[float],
    sampling: Sampling,
    *,
    uniform: float,
    excluded: Collection[str] = (),
) -> str:
    """Draw the next speaker: temperature, top-k, top-p, then one uniform number in [0, 1).

    Candidates with zero probability are drawn only where nobody else is left.
    """
    open_to = [
        (probability, name)
        for name, probability in zip(names, probabilities, strict=True)
        if name not in excluded
    ]
    if not any(probability > 0 for probability, _ in open_to):
        open_to = [(1.0, name) for _, name in open_to]
    ranked = sorted(open_to, key=lambda pair: -pair[0])  # Stable: equals keep their order.
    if sampling.is_greedy:
        return ranked[0][1]
    highest = ranked[0][0]
    weights = [(p / highest) ** (1 / sampling.temperature) for p, _ in ranked]
    total = math.fsum(weights)
    kept: list[float] = []
    for weight in weights[: sampling.top_k]:
        if math.fsum(kept) >= sampling.top_p * total:
            break
        kept.append(weight)
    threshold = uniform * math.fsum(kept)
    for index in range(len(kept)):
        if threshold < math.fsum(kept[: index + 1]):
            return ranked[index][1]
    return ranked[len(kept) - 1][1]


def response_end(trace: Trace, config: SwitchConfig) -> ResponseEnd | None:
    """Return why the response ends after its last segment, or None if it goes on."""
    last = trace.segments[-1]
    if last.finish_reason in {"stop", "grammar"}:
        return last.finish_reason
    speaker = config.candidate(last.speaker)
    if last.finish_reason == "eos" and config.eos_policy(speaker) == "end_response":
        return "eos"
    if trace.num_tokens_left <= 0:
        return "length"
    silent = silent_candidates(trace)
    if silent >= set(config.names):
        return "silence"
    has_answer = any(segment.text for segment in trace.segments)
    if silent and has_answer and silent | recent_failures(trace).keys() >= set(config.names):
        return "silence"  # Who is there has nothing to add.
    return None


def cut_at_stop(trace: Trace) -> Trace:
    """Return a stopped trace without its stop string and what followed it in the same token."""
    last_start = len(trace.text) - len(trace.segments[-1].text)
    where = find_stop(trace.text, trace.stop, start=last_start)
    return trace if where is None else trace.cut_text(where)
