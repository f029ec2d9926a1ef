"""Policies without a model: random (the paper's baseline) and fixed.

Knows nothing of engines or graphs.
"""

from __future__ import annotations

from collections.abc import Sequence

from langgraph_switch.config import GREEDY, Sampling
from langgraph_switch.switchers.base import Turn
from langgraph_switch.trace import DecidedBy, Trace


class _Memoryless:
    """What policies without a model have in common."""

    def check(self, trace: Trace) -> None:
        """Accept any trace."""

    def release(self, rows: Sequence[str]) -> None:
        """Remember nothing, forget nothing."""


class RandomSwitcher(_Memoryless):
    """Draws every speaker with the same probabilities, uniform by default."""

    decided_by: DecidedBy = "random"
    sampling = Sampling(temperature=1, top_p=1)

    def __init__(self, names: Sequence[str], weights: dict[str, float] | None = None) -> None:
        given = [1.0 if weights is None else weights.get(name, 0.0) for name in names]
        self._probabilities = tuple(weight / sum(given) for weight in given)

    def probabilities(self, turns: Sequence[Turn]) -> list[tuple[float, ...]]:
        """Return the same probabilities for every turn."""
        return [self._probabilities] * len(turns)


class FixedSwitcher(_Memoryless):
    """Follows an order of speakers by the number of segments written, again and again."""

    decided_by: DecidedBy = "fixed"
    sampling = GREEDY

    def __init__(self, names: Sequence[str], order: Sequence[str]) -> None:
        self._names = names
        self._order = order

    def probabilities(self, turns: Sequence[Turn]) -> list[tuple[float, ...]]:
        """Return probability 1 for the speaker whose turn it is."""
        return [self._certain(turn.trace) for turn in turns]

    def _certain(self, trace: Trace) -> tuple[float, ...]:
        speaker = self._order[len(trace.segments) % len(self._order)]
        return tuple(float(name == speaker) for name in self._names)
