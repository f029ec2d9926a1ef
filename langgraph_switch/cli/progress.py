"""A progress bar with rate and time left, for long work.

Knows nothing of the work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from langgraph_switch.cli.screen import Screen

Advance = Callable[[int], None]


class RateColumn(ProgressColumn):
    """Units per second."""

    def render(self, task: Task) -> Text:
        """Return the mean rate so far."""
        if not task.elapsed:
            return Text("")
        done = task.completed - task.fields.get("before", 0)
        return Text(f"{done / task.elapsed:.1f}/s")


@contextmanager
def work_progress(screen: Screen, label: str, *, total: int, done: int = 0) -> Iterator[Advance]:
    """Show progress on a terminal; yield what is called with the number of units done.

    Args:
        screen: Where to.
        label: What is being done.
        total: Units in all.
        done: Units that an earlier run did.
    """
    progress = Progress(
        TextColumn(label),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=screen.err,
        disable=not screen.err.is_terminal,
    )
    with progress:
        task = progress.add_task("", total=total, completed=done, before=done)
        yield lambda number: progress.advance(task, number)


@contextmanager
def step_progress(screen: Screen, label: str) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Show what the events of a training say; yield what is called with each event."""
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=screen.err,
        disable=not screen.err.is_terminal,
    )
    with progress:
        task = progress.add_task(label, total=None)

        def show(event: dict[str, Any]) -> None:
            if event["type"] == "step":
                what = f"{label}, loss {event['loss']:.3f}"
                progress.update(
                    task, description=what, completed=event["step"], total=event["total"]
                )
            elif event["type"] == "answered":
                progress.update(task, description="Answering", advance=event["responses"])
            elif event["type"] in {"trained", "measured"}:
                progress.update(task, description="Measuring")

        yield show
