"""A switcher that changes what another one answers, and nothing else.

Knows nothing of how the other one decides.
"""

from __future__ import annotations

from collections.abc import Sequence

from langgraph_switch.config import Sampling
from langgraph_switch.switchers.base import Switcher, Turn
from langgraph_switch.trace import DecidedBy, Trace


class SwitcherWrapper:
    """Passes everything on to another switcher; subclasses change the probabilities."""

    def __init__(self, base: Switcher) -> None:
        self._base = base
        self.decided_by: DecidedBy = base.decided_by
        self.sampling: Sampling = base.sampling

    def probabilities(self, turns: Sequence[Turn]) -> list[tuple[float, ...]]:
        """Return what the base says."""
        return self._base.probabilities(turns)

    def check(self, trace: Trace) -> None:
        """Refuse what the base refuses."""
        self._base.check(trace)

    def release(self, rows: Sequence[str]) -> None:
        """Let the base forget rows."""
        self._base.release(rows)
