"""`langgraph-switch distill`: a switch in, one model out.

Knows nothing of how weights are trained.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer
from rich.table import Table

from langgraph_switch.cli.learning_options import DistillOptions, TrainingOptions
from langgraph_switch.cli.progress import step_progress
from langgraph_switch.cli.screen import EXIT_INTERRUPTED, Screen
from langgraph_switch.cli.train import sft_settings
from langgraph_switch.offline.distillation import DistillationJob, DistillSettings, distill_switch
from langgraph_switch.offline.distilled_card import SCORE_HEAD, recovered, score_rows
from langgraph_switch.switch import Switch
from langgraph_switch.tasks import Task


def distill_into(
    switch: Switch,
    task: Task,
    options: DistillOptions,
    training: TrainingOptions,
    out: Path,
    screen: Screen,
) -> dict[str, Any]:
    """Distil a switch, or go on with it.

    Raises:
        SwitchError: The task or the switch is at fault, or the training failed.
        typer.Exit: Ctrl-C was pressed (130).
    """
    job = DistillationJob(
        switch=switch,
        task=task,
        out=out,
        settings=DistillSettings(
            queries=options.queries,
            questions=options.questions,
            min_score=options.min_score,
            best_of=options.best_of,
            seed=switch.config.seed or 0,
        ),
        training=sft_settings(training),
    )
    try:
        with step_progress(screen, "Distilling") as show:
            report = distill_switch(job, on_event=show)
    except KeyboardInterrupt:
        screen.warn("Interrupted.\n  Fix: run the same command again to continue")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    table = Table(*SCORE_HEAD, box=None, pad_edge=False, header_style="dim")
    for row in score_rows(report):
        table.add_row(*row)
    screen.out.print(table)
    screen.note(recovered(report))
    screen.note(f"Model: {out}")
    return report
