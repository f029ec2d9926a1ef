"""Conditions compared: scores, paired differences, what each candidate adds, who speaks when.

In: every condition's responses to the same questions. Out: plain JSON types, from which tables,
pictures and cards are made. Knows nothing of how responses came about or are shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from statistics import fmean
from typing import Any

from langgraph_switch.offline.conditions import ORACLE, RANDOM, TRAINED, Responses, alone, without
from langgraph_switch.offline.patterns import (
    longest_turns,
    sequence_effects,
    shares_by_position,
    transitions,
)
from langgraph_switch.offline.responses import Response
from langgraph_switch.offline.statistics import Difference, mean_interval, paired_difference
from langgraph_switch.tasks import Example

_EXAMPLES_OF_A_KIND = 3
_RIGHT = 0.5
"""A question counts as solved from this score on."""
_SEQUENCE_LENGTHS = (2, 3)


@dataclass(frozen=True)
class Comparison:
    """Every condition's responses to the same questions, in the same order."""

    responses: Responses
    examples: Sequence[Example]
    names: Sequence[str]
    """The candidates."""

    @cached_property
    def clusters(self) -> list[str]:
        """Per question what it stands or falls with: its `cluster`, or itself."""
        return [str(one.meta.get("cluster", one.id)) for one in self.examples]

    @cached_property
    def types(self) -> list[str | None]:
        """Per question its `type`, if the task names types."""
        return [one.meta.get("type") for one in self.examples]

    @cached_property
    def best_single(self) -> str:
        """The condition of the candidate with the best mean score."""
        return max(map(alone, self.names), key=self._mean)

    def scores(self, condition: str) -> list[float | None]:
        """Return a condition's scores."""
        return [one.score for one in self.responses[condition]]

    def interval(self, condition: str, kind: str | None = None) -> dict[str, Any]:
        """Return a condition's mean score over the rows that were judged."""
        rows = zip(self.scores(condition), self.clusters, self.types, strict=True)
        known = [(s, c) for s, c, t in rows if s is not None and kind in {None, t}]
        return asdict(mean_interval([s for s, _ in known], [c for _, c in known]))

    def difference(self, ours: str, theirs: str) -> Difference:
        """Return how much better one condition is than another, question by question."""
        return paired_difference(self.scores(ours), self.scores(theirs), self.clusters)

    def _mean(self, condition: str) -> float:
        return fmean([s for s in self.scores(condition) if s is not None] or [0.0])


def analyse(
    responses: Responses,
    *,
    examples: Sequence[Example],
    names: Sequence[str],
    resampled_first: Responses,
    resampled: Responses,
) -> dict[str, Any]:
    """Compare conditions.

    Args:
        responses: By condition, one per example in order.
        examples: The questions.
        names: The candidates.
        resampled_first: Samples of the singles and of the trained switch at a temperature.
        resampled: Second, independent samples of the singles; may be empty.
    """
    comparison = Comparison(responses, examples, names)
    found: dict[str, Any] = {
        "names": list(names),
        "best_single": comparison.best_single,
        "conditions": {name: _condition(comparison, name) for name in responses},
        "differences": {},
    }
    if TRAINED not in responses:
        return found
    traces = [one.trace for one in responses[TRAINED]]
    return found | {
        "differences": {
            name: asdict(comparison.difference(TRAINED, name))
            for name in responses
            if name != TRAINED
        },
        "leave_one_out": _leave_one_out(comparison),
        "solved_by_none": _solved_by_none(comparison, resampled_first, resampled),
        "positions": shares_by_position(traces, names),
        "transitions": transitions(traces, names),
        "turns": longest_turns(traces, names),
        "sequences": {str(n): _sequences(comparison, n) for n in _SEQUENCE_LENGTHS},
        "examples": _examples(comparison),
    }


def _sequences(comparison: Comparison, length: int) -> list[dict[str, Any]]:
    """Return sequences with their effect under random switching, and how often each is used.

    Random switching draws its speakers by lot, so there the difference is the sequence's doing and
    not the question's; the paper looks at the trained switcher's own responses.
    """
    drawn = comparison.responses.get(RANDOM)
    if drawn is None:
        return []
    own = comparison.responses[TRAINED]
    used = {
        one.sequence: one.share
        for one in sequence_effects(
            [r.trace for r in own], comparison.scores(TRAINED), length=length
        )
    }
    effects = sequence_effects([r.trace for r in drawn], comparison.scores(RANDOM), length=length)
    return [asdict(one) | {"trained_share": used.get(one.sequence, 0.0)} for one in effects]


def _condition(comparison: Comparison, name: str) -> dict[str, Any]:
    found = comparison.responses[name]
    types = sorted({one for one in comparison.types if one is not None})
    return {
        "score": comparison.interval(name),
        "failed": sum(one.score is None for one in found),
        "by_type": {kind: comparison.interval(name, kind) for kind in types},
        "tokens": fmean(one.trace.num_tokens for one in found),
        "seconds": fmean(one.seconds for one in found),
    }


def _leave_one_out(comparison: Comparison) -> dict[str, Any]:
    """Return how good each candidate is alone, next to what it adds (paper, figure 4)."""
    return {
        name: {
            "alone": comparison.interval(alone(name)),
            "adds": asdict(comparison.difference(TRAINED, without(name))),
        }
        for name in comparison.names
        if without(name) in comparison.responses
    }


def _solved_by_none(
    comparison: Comparison, first: Responses, second: Responses
) -> dict[str, Any] | None:
    """Return how much of what every single fails the switch solves, and what chance solves of it.

    Like for like: another sample of the best single is as much luck as the switch's one sample.
    """
    own = _unsolved(comparison, comparison.responses)
    found: dict[str, Any] = {"greedy": own} if own else {}
    if TRAINED in first and second:
        singles = [alone(name) for name in comparison.names]
        failed = _failed_by_all(first, singles)
        best = max(singles, key=lambda name: fmean(one.score or 0 for one in first[name]))
        again = [
            any(_is_right(second[name][i]) for name in singles) for i in range(len(first[best]))
        ]
        clusters = [comparison.clusters[i] for i in failed]
        found["sampled"] = {
            "failed": len(failed),
            "switch": _share([_is_right(first[TRAINED][i]) for i in failed], clusters),
            "best single again": _share([_is_right(second[best][i]) for i in failed], clusters),
            "any single again": _share([again[i] for i in failed], clusters),
            "best_single": best,
        }
    return found or None


def _unsolved(comparison: Comparison, responses: Responses) -> dict[str, Any]:
    failed = _failed_by_all(responses, [alone(name) for name in comparison.names])
    clusters = [comparison.clusters[i] for i in failed]
    solved = [_is_right(responses[TRAINED][i]) for i in failed]
    return {"failed": len(failed), "switch": _share(solved, clusters)}


def _failed_by_all(responses: Responses, singles: Sequence[str]) -> list[int]:
    rows = list(zip(*(responses[name] for name in singles), strict=True))
    return [i for i, row in enumerate(rows) if not any(_is_right(one) for one in row)]


def _share(values: Sequence[bool], clusters: Sequence[str]) -> dict[str, Any]:
    return asdict(mean_interval([float(value) for value in values], clusters)) if values else {}


def _is_right(response: Response) -> bool:
    return response.score is not None and response.score >= _RIGHT


def _examples(comparison: Comparison) -> list[dict[str, Any]]:
    """Return a few responses: solved by switching alone, solved anyhow, and failures."""
    oracle = comparison.responses.get(ORACLE)
    trained = comparison.responses[TRAINED]
    kinds: Mapping[str, list[int]] = {
        "only switching solves it": [],
        "a single solves it too": [],
        "switching fails": [],
    }
    for i, one in enumerate(trained):
        by_single = oracle is not None and _is_right(oracle[i])
        if not _is_right(one):
            kinds["switching fails"].append(i)
        else:
            kinds["a single solves it too" if by_single else "only switching solves it"].append(i)
    return [
        _example(comparison.examples[i], trained[i], kind)
        for kind, indices in kinds.items()
        for i in _spread(indices)
    ]


def _spread(indices: Sequence[int]) -> list[int]:
    """Return a few of many, from all over them."""
    step = max(1, len(indices) // _EXAMPLES_OF_A_KIND)
    return list(indices[::step][:_EXAMPLES_OF_A_KIND])


def _example(example: Example, response: Response, kind: str) -> dict[str, Any]:
    return {
        "kind": kind,
        "query": example.query,
        "references": list(example.references),
        "score": response.score,
        "segments": [
            {"speaker": one.speaker, "text": one.text, "decided_by": one.decided_by}
            for one in response.trace.segments
        ],
    }
