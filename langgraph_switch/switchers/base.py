"""The switcher contract: who should write the next segment, and how likely each.

Knows nothing of how tokens are generated or of graphs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from langgraph_switch.config import Sampling
from langgraph_switch.trace import DecidedBy, Trace


@dataclass(frozen=True, slots=True)
class Turn:
    """A trace that waits for its next segment."""

    trace: Trace
    row: str
    """Names the memory that engines keep for this trace."""
    fork_of: str | None = None
    """Another trace's row whose memory this one may start from, where it has none yet."""


class Switcher(Protocol):
    """Gives every candidate a probability to write the next segment (paper, `f(q, t, C)`)."""

    @property
    def decided_by(self) -> DecidedBy:
        """What a segment's provenance says of a decision by this policy."""
        ...

    @property
    def sampling(self) -> Sampling:
        """How a speaker is drawn from the probabilities."""
        ...

    def probabilities(self, turns: Sequence[Turn]) -> list[tuple[float, ...]]:
        """Return, per turn, one probability per candidate in the configuration's order."""
        ...

    def check(self, trace: Trace) -> None:
        """Refuse a trace that this policy could not follow to its end.

        Raises:
            ContextLengthError: The whole response would not fit into the switcher's context.
        """
        ...

    def release(self, rows: Sequence[str]) -> None:
        """Forget what is remembered of rows."""
        ...
