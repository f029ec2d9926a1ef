"""`langgraph-switch train`: rollouts in, a switch out.

Knows nothing of how weights are trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from rich.table import Table

from langgraph_switch.cli.learning_options import LabelOptions, Method, TrainingOptions
from langgraph_switch.cli.progress import step_progress
from langgraph_switch.cli.screen import EXIT_INTERRUPTED, Screen
from langgraph_switch.config import HeadKind
from langgraph_switch.errors import ConfigError
from langgraph_switch.offline.head_settings import HeadSettings
from langgraph_switch.offline.rounds import round_folders
from langgraph_switch.offline.sft_settings import SftSettings
from langgraph_switch.offline.training import train_switcher
from langgraph_switch.offline.training_rows import RowSettings


def sft_settings(options: TrainingOptions) -> SftSettings:
    """Return the settings that the options describe."""
    given = {
        "method": options.method.value,
        "epochs": options.epochs,
        "learning_rate": options.learning_rate,
        "batch_size": options.rows_per_step,
        "seed": options.training_seed,
    }
    return SftSettings(**{key: value for key, value in given.items() if value is not None})


def head_settings(kind: HeadKind, options: TrainingOptions) -> HeadSettings:
    """Return the settings of a head that the options describe.

    Raises:
        ConfigError: An option is about the weights of a model.
    """
    if options.method is not Method.auto:
        raise ConfigError(
            f"--method {options.method.value} changes a model's weights; --head changes none.",
            hint="give one of them",
        )
    given = {
        "epochs": options.epochs,
        "learning_rate": options.learning_rate,
        "batch_size": options.rows_per_step,
        "seed": options.training_seed,
    }
    known = {key: value for key, value in given.items() if value is not None}
    return HeadSettings(kind=kind, **known)


def train_on(
    rollouts: Sequence[str],
    labels: LabelOptions,
    training: TrainingOptions,
    out: Path,
    screen: Screen,
) -> None:
    """Train a switcher, or go on with it.

    Raises:
        SwitchError: The rollouts or the settings are at fault, or the training failed.
        typer.Exit: Ctrl-C was pressed (130).
    """
    folders = [folder for given in rollouts for folder in _folders(given)]
    head = labels.head
    settings = head_settings(head.value, training) if head else sft_settings(training)
    rows = RowSettings(soft_labels=labels.soft_labels, keep_ties=labels.keep_ties)
    try:
        with step_progress(screen, "Training") as show:
            trained = train_switcher(
                folders,
                out=out,
                base=labels.base,
                rows=rows,
                settings=settings,
                on_event=show,
            )
    except KeyboardInterrupt:
        screen.warn("Interrupted.\n  Fix: run the same command again to continue")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    for warning in trained.warnings:
        screen.warn(warning)
    screen.err.print(metrics_table(trained.metrics))
    counts, how = trained.counts, trained.finetuned
    screen.note(
        f"{counts['training']} rows to train on, {counts['held_out']} held out (95 % intervals), "
        f"{counts['ties_left_out']} ties left out; {how['why']}; {how['steps']} steps in "
        f"{how['seconds']:.0f} s."
    )
    screen.note(f"Switch: {out / 'switch.json'}")


def metrics_table(metrics: Mapping[str, Any]) -> Table:
    """Return the switcher's choices on held-out rows beside simple ones."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for head in ("choice", "accuracy, %", "regret"):
        table.add_column(head)
    if metrics["n"]:
        for name, one in {"this switcher": metrics, **metrics["baselines"]}.items():
            who = f" ({one['candidate']})" if "candidate" in one else ""
            accuracy, regret = one["accuracy"], one["regret"]
            table.add_row(
                f"{name}{who}",
                f"{100 * accuracy['mean']:.1f} "
                f"[{100 * accuracy['low']:.1f}, {100 * accuracy['high']:.1f}]",
                f"{regret['mean']:.3f} [{regret['low']:.3f}, {regret['high']:.3f}]",
            )
    return table


def _folders(given: str) -> list[str | Path]:
    """Return the folders of rounds in a folder; a repo is one round."""
    return [given] if given.startswith("hf://") else list(round_folders(Path(given)))
