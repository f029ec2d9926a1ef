"""The commands that learn: what they take. What they do is imported when they run."""

# ruff: noqa: PLC0415 - imports inside commands are the point of this module

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from langgraph_switch.cli.learning_options import (
    OUTPUT,
    ROLLOUTS,
    TASK,
    ClusterOptions,
    DistillOptions,
    LabelOptions,
    OutOption,
    RolloutOptions,
    TaskOptions,
    TrainingOptions,
)
from langgraph_switch.cli.options import ScreenOptions, SwitchOptions, with_option_groups
from langgraph_switch.cli.screen import Screen, reporting


def add_learning_commands(app: typer.Typer) -> None:
    """Give a command line the commands rollout, train, evaluate and distill."""
    for command in (rollout, train, evaluate, distill):
        app.command()(with_option_groups(command))


def rollout(
    switch: SwitchOptions,
    task: TaskOptions,
    rollouts: RolloutOptions,
    cluster: ClusterOptions,
    display: ScreenOptions,
    out: OutOption = Path("runs/rollouts"),
) -> None:
    """Collect rollouts: who should have written next? The same command resumes."""
    screen = Screen(display)
    with reporting(screen):
        from langgraph_switch.cli.configure import effective_config
        from langgraph_switch.cli.rollout import collect
        from langgraph_switch.tasks import load_task

        collect(
            effective_config(switch),
            load_task(task.task, score=task.score),
            rollouts,
            out=out,
            cluster=cluster,
            screen=screen,
            trusted=switch.trust_remote_code or (),
        )


def train(
    labels: LabelOptions,
    training: TrainingOptions,
    display: ScreenOptions,
    rollouts: Annotated[
        list[str] | None,
        typer.Option(
            help="Folder of rollouts, or hf://datasets/user/name; repeatable. Default: "
            "runs/rollouts.",
            rich_help_panel=ROLLOUTS,
        ),
    ] = None,
    out: OutOption = Path("runs/switcher"),
) -> None:
    """Train a switcher on rollouts. The same command resumes."""
    screen = Screen(display)
    with reporting(screen):
        from langgraph_switch.cli.train import train_on

        train_on(rollouts or ["runs/rollouts"], labels, training, out, screen)


def evaluate(
    switch: SwitchOptions,
    task: TaskOptions,
    cluster: ClusterOptions,
    display: ScreenOptions,
    questions: Annotated[
        int | None,
        typer.Option(
            min=1, help="Questions of the test split; default: all.", rich_help_panel=TASK
        ),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="Leave out leave-one-out and the second samples of the singles.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    out: OutOption = Path("runs/eval"),
) -> None:
    """Compare switching with every checkpoint alone; the same command resumes."""
    screen = Screen(display)
    with reporting(screen):
        from langgraph_switch.cli.configure import effective_config
        from langgraph_switch.cli.evaluate import evaluate as run
        from langgraph_switch.offline.answering import EvaluationSettings
        from langgraph_switch.tasks import load_task

        settings = EvaluationSettings(
            questions=questions,
            seed=switch.seed or 0,
            leave_one_out=not quick,
            resample=not quick,
        )
        found = load_task(task.task, score=task.score)
        run(
            effective_config(switch),
            found,
            settings,
            out=out,
            cluster=cluster,
            screen=screen,
            trusted=switch.trust_remote_code or (),
        )


def distill(
    switch: SwitchOptions,
    task: TaskOptions,
    distillation: DistillOptions,
    training: TrainingOptions,
    display: ScreenOptions,
    out: OutOption = Path("runs/distilled"),
) -> None:
    """Distil the switch into its anchor: its answers at the cost of one model."""
    screen = Screen(display)
    with reporting(screen):
        from langgraph_switch.cli.configure import effective_config
        from langgraph_switch.cli.distill import distill_into
        from langgraph_switch.switch import Switch
        from langgraph_switch.tasks import load_task

        found = load_task(task.task, score=task.score)
        loaded = Switch(effective_config(switch), trust_remote_code=switch.trust_remote_code or ())
        distill_into(loaded, found, distillation, training, out, screen)
