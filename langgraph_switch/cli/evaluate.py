"""`langgraph-switch evaluate`: every condition on the test split, a table and a report.

Knows nothing of statistics.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import typer

from langgraph_switch.cli.cluster import cluster_workers
from langgraph_switch.cli.learning_options import ClusterOptions
from langgraph_switch.cli.progress import work_progress
from langgraph_switch.cli.score_view import scores
from langgraph_switch.cli.screen import EXIT_INTERRUPTED, Screen
from langgraph_switch.config import SwitchConfig
from langgraph_switch.offline.answering import EvaluationSettings
from langgraph_switch.offline.evaluation import EvaluationJob, evaluate_switch
from langgraph_switch.offline.provenance import switcher_provenance
from langgraph_switch.report import verdict
from langgraph_switch.switch import Switch
from langgraph_switch.tasks import Task

_TABLE_WIDTH = 110
"""Cells that the table needs; a narrower terminal breaks its lines."""


def evaluate(
    config: SwitchConfig,
    task: Task,
    settings: EvaluationSettings,
    *,
    out: Path,
    cluster: ClusterOptions,
    screen: Screen,
    trusted: Collection[str] = (),
) -> dict[str, Any]:
    """Evaluate a switch, or go on with it.

    Raises:
        SwitchError: The task or the switch is at fault, or an engine failed.
        typer.Exit: Ctrl-C was pressed (130).
    """
    job = EvaluationJob(
        switch=Switch(config, trust_remote_code=trusted) if trusted else config,
        task=task,
        out=out,
        settings=settings,
        about=switcher_provenance(config),
    )
    total = len(job.conditions) * len(job.examples)
    done = total - sum(len(job.batch(number)) for _, number in job.batches())
    try:
        with (
            cluster_workers(cluster, screen) as workers,
            work_progress(screen, "Answering", total=total, done=done) as advance,
        ):
            found = evaluate_switch(
                job, workers=workers, on_event=lambda event: advance(event["responses"])
            )
    except KeyboardInterrupt:
        screen.warn(
            f"Interrupted; what was answered is in {str(out)!r}."
            "\n  Fix: run the same command again to continue"
        )
        raise typer.Exit(EXIT_INTERRUPTED) from None
    screen.out.width = max(screen.out.width, _TABLE_WIDTH)
    screen.out.print(scores(found["analysis"]))
    screen.out.print(verdict(found["analysis"]), soft_wrap=True)
    screen.note(f"Report: {out / 'report.html'}")
    return found
