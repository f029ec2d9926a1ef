"""What one run of the state machine may change: segments, temperature, switcher, seed.

For whoever starts runs of a graph that is there already: LangGraph's server, Studio, a parent
graph. Knows nothing of LangGraph.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from typing_extensions import TypedDict

from langgraph_switch.config import LMSwitcherSpec, RandomSwitcherSpec
from langgraph_switch.errors import InputError
from langgraph_switch.switch import Switch

MakeSwitch: TypeAlias = Callable[[], Switch]


class SwitchContext(TypedDict, total=False):
    """Settings of one run; what is left out is as configured."""

    segment_tokens: int
    """Most tokens of a segment."""
    temperature: float
    """Of every candidate, for queries that name none; 0 is greedy."""
    seed: int
    """Of every draw, for queries that name none."""
    switcher: str
    """`configured`, `random`, or a candidate whose own weights decide, untrained."""


class SwitchVariants:
    """A switch and what runs make of it; all share their engines."""

    def __init__(self, load: MakeSwitch) -> None:
        """Stand for a switch.

        Args:
            load: Returns it, always the same; called when a run needs it.
        """
        self._load = load
        self._made: dict[tuple[int | None, str], Switch] = {}
        self._lock = threading.Lock()

    def switch(self, context: Mapping[str, Any] | None) -> Switch:
        """Return the switch under a run's settings.

        Raises:
            InputError: There is no such setting, or its value is out of range.
        """
        if not context:
            return self._load()
        known = SwitchContext.__annotations__
        if unknown := sorted(set(context) - set(known)):
            raise InputError(
                f"A run has no setting {unknown[0]!r}.", hint=f"use {', '.join(sorted(known))}"
            )
        key = (context.get("segment_tokens"), context.get("switcher", "configured"))
        with self._lock:
            if key not in self._made:
                self._made[key] = self._make(*key)
            return self._made[key]

    def _make(self, segment_tokens: int | None, switcher: str) -> Switch:
        switch = self._load()
        config = switch.config
        changes: dict[str, Any] = {}
        if segment_tokens is not None:
            changes["segment"] = config.segment.model_dump() | {"max_tokens": segment_tokens}
        if switcher == "random":
            changes["switcher"] = RandomSwitcherSpec()
        elif switcher in config.names:
            changes["switcher"] = LMSwitcherSpec(candidate=switcher)
        elif switcher != "configured":
            raise InputError(
                f"There is no switcher {switcher!r}.",
                hint=f"use configured, random, {', '.join(config.names)}",
            )
        return switch.with_config(config.with_changes(**changes))


def with_defaults(query: Any, context: Mapping[str, Any] | None) -> Any:
    """Return a query with the run's seed and temperature, where it names none itself."""
    settings = context or {}
    given = {key: settings[key] for key in ("seed", "temperature") if key in settings}
    if not given:
        return query
    fields = {"query": query} if isinstance(query, str) else query
    return {**given, **fields} if isinstance(fields, Mapping) else query
