"""`langgraph-switch rollout`: rollouts into a folder, with progress, resumable.

Knows nothing of how rollouts are made.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import typer
from rich.table import Table

from langgraph_switch.cli.cluster import cluster_workers
from langgraph_switch.cli.learning_options import ClusterOptions, RolloutOptions
from langgraph_switch.cli.progress import work_progress
from langgraph_switch.cli.screen import EXIT_INTERRUPTED, Screen
from langgraph_switch.config import SwitchConfig
from langgraph_switch.offline.collect import Rollouts, collect_rollouts
from langgraph_switch.offline.rollout import RolloutJob
from langgraph_switch.offline.rounds import prepare_rounds
from langgraph_switch.offline.settings import RolloutSettings
from langgraph_switch.offline.workers import Workers
from langgraph_switch.switch import Switch
from langgraph_switch.tasks import Task


def rollout_settings(options: RolloutOptions, *, seed: int) -> RolloutSettings:
    """Return the settings that the options describe."""
    return RolloutSettings(
        completions=options.completions,
        completer=options.completer.value,
        epsilon=options.epsilon,
        early_stop=options.early_stop,
        chunk_queries=options.in_flight,
        seed=seed,
    )


def collect(
    config: SwitchConfig,
    task: Task,
    options: RolloutOptions,
    *,
    out: Path,
    cluster: ClusterOptions,
    screen: Screen,
    trusted: Collection[str] = (),
) -> None:
    """Collect rollouts, or go on with it.

    Raises:
        SwitchError: The task or the switch is at fault, or an engine failed.
        typer.Exit: Ctrl-C was pressed (130).
    """

    def tell(event: dict[str, Any]) -> None:
        if event["type"] == "split":
            screen.note(f"Training on {event['counts']['training']} rows for the next round ...")

    rounds = prepare_rounds(
        Switch(config, trust_remote_code=trusted) if trusted else config,
        task,
        out=out,
        rounds=options.rounds,
        queries=options.queries,
        settings=rollout_settings(options, seed=config.seed or 0),
        on_training=tell,
    )
    for job in rounds:
        _collect_round(job, cluster, screen)


def _collect_round(job: RolloutJob, cluster: ClusterOptions, screen: Screen) -> None:
    out = job.shards.folder
    try:
        with cluster_workers(cluster, screen) as workers:
            found = _collect_with_progress(job, workers, screen)
    except KeyboardInterrupt:
        screen.warn(
            f"Interrupted: {_num_done(job)} of {len(job.examples)} queries are in {str(out)!r}."
            "\n  Fix: run the same command again to continue"
        )
        raise typer.Exit(EXIT_INTERRUPTED) from None
    summary = found.summary
    screen.err.print(summary_table(summary))
    screen.note(
        f"{summary['rows']} rows: {summary['decided']} decided, {summary['ties']} ties, "
        f"{summary['failed']} without a score; {summary['completions']} completions."
    )
    if summary["failed_scores"]:
        screen.warn(
            f"{summary['failed_scores']} completions could not be scored: "
            f"{'; '.join(summary['errors'])}"
        )


def _collect_with_progress(job: RolloutJob, workers: Workers | None, screen: Screen) -> Rollouts:
    per_query = len(job.config.names) * job.settings.completions
    done = _num_done(job)
    if done:
        screen.note(f"{done} of {len(job.examples)} queries are done already.")
    label = f"Completions ({job.settings.completer})"
    total = per_query * len(job.examples)
    with work_progress(screen, label, total=total, done=per_query * done) as advance:
        return collect_rollouts(
            job,
            workers=workers,
            on_event=lambda event: advance(event.get("completions", 0)),
        )


def _num_done(job: RolloutJob) -> int:
    missing = sum(len(job.chunk(index)) for index in job.missing_chunks())
    return len(job.examples) - missing


def summary_table(summary: Mapping[str, Any]) -> Table:
    """Return what the rollouts amount to."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for head in ("candidate", "best in", "mean score"):
        table.add_column(head, justify="left" if head == "candidate" else "right")
    for name, count in summary["labels"].items():
        table.add_row(name, str(count), f"{summary['mean_scores'][name]:.3f}")
    return table
