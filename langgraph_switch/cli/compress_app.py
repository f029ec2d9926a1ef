"""`langgraph-switch compress`: what it takes. What it does is imported when it runs."""

# ruff: noqa: PLC0415 - imports inside commands are the point of this module

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from langgraph_switch.cli.learning_options import TASK, OutOption
from langgraph_switch.cli.options import ScreenOptions, SwitchOptions, with_option_groups
from langgraph_switch.cli.screen import Screen, reporting

_BOUNDS = "What may be lost"


def add_compress_command(app: typer.Typer) -> None:
    """Give a command line the command compress."""
    app.command()(with_option_groups(compress))


@dataclass(frozen=True, kw_only=True)
class CompressOptions:
    """What stays, what may be lost, and on what that is measured."""

    base: Annotated[
        str | None,
        typer.Option(
            help="The candidate whose weights stay; default: the anchor.",
            rich_help_panel=_BOUNDS,
        ),
    ] = None
    error: Annotated[
        float,
        typer.Option(
            help="Most of a layer's change that is left out, relative: of its effect on the "
            "layer's outputs with --task, else of its weights.",
            rich_help_panel=_BOUNDS,
        ),
    ] = 0.2
    embedding_error: Annotated[
        float | None,
        typer.Option(
            help="The same for the embedding; default: a quarter.", rich_help_panel=_BOUNDS
        ),
    ] = None
    calibration: Annotated[
        int,
        typer.Option(
            min=0,
            help="Training questions that show what layers are fed; 0: bound the weights.",
            rich_help_panel=_BOUNDS,
        ),
    ] = 150
    task: Annotated[
        str | None,
        typer.Option(help="Calibrate and measure scores on this task.", rich_help_panel=TASK),
    ] = None
    split: Annotated[
        str,
        typer.Option(
            help="Whose questions are scored; choose bounds on dev.", rich_help_panel=TASK
        ),
    ] = "test"
    questions: Annotated[
        int | None, typer.Option(min=1, help="How many; default: all.", rich_help_panel=TASK)
    ] = None


def compress(
    switch: SwitchOptions,
    options: CompressOptions,
    display: ScreenOptions,
    out: OutOption = Path("runs/compressed"),
) -> None:
    """Express checkpoints as one of them and low-rank adapters: weights once, one pass for all."""
    screen = Screen(display)
    with reporting(screen):
        from langgraph_switch.cli.compress import Measuring, compress_to
        from langgraph_switch.cli.configure import effective_config
        from langgraph_switch.tasks import load_task

        settings = {
            name: getattr(options, name)
            for name in ("base", "error", "embedding_error", "calibration")
        }
        task = load_task(options.task) if options.task else None
        measuring = Measuring(task, options.split, options.questions)
        compress_to(effective_config(switch), settings, measuring, out, screen)
