"""What long work says while it runs.

Knows nothing of what the work is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

OnEvent: TypeAlias = Callable[[dict[str, Any]], None]
"""Told what happens, as plain JSON types with a `type`; what it raises breaks the work off."""


def relay(events: Iterable[dict[str, Any]], on_event: OnEvent | None) -> None:
    """Run through a graph's stream of events, and pass them on to whom they concern."""
    for event in events:
        if on_event is not None:
            on_event(event)
