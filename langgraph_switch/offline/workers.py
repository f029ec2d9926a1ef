"""Where long work runs: cut into units, each of which a worker does and tells about.

The driver hands out units, shows progress and writes files; workers load models and compute. Units
are done in any order, each exactly once as far as the driver sees. Knows nothing of Ray, and
nothing of what the work is.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

Unit = TypeVar("Unit")
_Unit_contra = TypeVar("_Unit_contra", contravariant=True)

Event: TypeAlias = dict[str, Any]
"""What happened, as plain JSON types with a `type`; the last event of a unit holds its result."""


class Work(Protocol[_Unit_contra]):
    """What a worker does; sent to it once, so it holds descriptions and no loaded models."""

    def start(self) -> Callable[[_Unit_contra], Iterator[Event]]:
        """Load what is needed; return what does one unit and yields its events.

        Equal units yield equally many events, the result last: what a lost worker had told
        already is then not told twice.
        """


class Workers(Protocol):
    """Who does the units."""

    def run(self, work: Work[Unit], units: Sequence[Unit]) -> Generator[tuple[Unit, Event]]:
        """Do every unit; yield what happens as it happens, each event beside its unit.

        Closing it before its end breaks off what is in progress.
        """
