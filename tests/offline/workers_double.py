"""Workers in this process: what they are sent goes through pickle, and units come back to front."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from ray import cloudpickle

from langgraph_switch.offline.workers import Event, Unit, Work


class BackToFront:
    """Does the last unit first."""

    def __init__(self) -> None:
        self.done: list[Any] = []
        self.is_closed = False

    def run(self, work: Work[Unit], units: Sequence[Unit]) -> Generator[tuple[Unit, Event]]:
        """Do every unit."""
        do = cloudpickle.loads(cloudpickle.dumps(work)).start()
        try:
            for unit in reversed(units):
                for event in do(unit):
                    yield unit, event
                self.done.append(unit)
        finally:
            self.is_closed = True
