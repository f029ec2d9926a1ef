"""Options of the commands that learn: rollout, train, evaluate, distill.

Knows nothing of what options do.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

TASK, ROLLOUTS, TRAINING, OUTPUT = "What is asked", "Rollouts", "Training", "Output"
CLUSTER = "Many machines"


class Completer(StrEnum):
    """Who writes prefixes and completions."""

    random = "random"
    anchored = "anchored"
    switcher = "switcher"


class Method(StrEnum):
    """How weights are changed."""

    auto = "auto"
    lora = "lora"
    full = "full"


class Head(StrEnum):
    """The shape of a head switcher."""

    linear = "linear"
    mlp = "mlp"


@dataclass(frozen=True, kw_only=True)
class TaskOptions:
    """Questions and how answers are judged."""

    task: Annotated[
        str,
        typer.Option(
            help="tiny/compose or tiny/mixed, a JSONL, JSON or parquet file, a folder, or "
            "hf://datasets/user/name.",
            rich_help_panel=TASK,
        ),
    ] = "tiny/compose"
    score: Annotated[
        str | None,
        typer.Option(
            help="exact_match, numeric, multiple_choice, f1, math, reward_model[:MODEL], "
            "judge:module:runnable or module:function; default: what the task asks for.",
            rich_help_panel=TASK,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class RolloutOptions:
    """How rollouts are made."""

    queries: Annotated[
        int | None,
        typer.Option(min=1, help="Questions to ask; default: all.", rich_help_panel=TASK),
    ] = None
    completions: Annotated[
        int, typer.Option(min=1, help="Completions per branch (k).", rich_help_panel=ROLLOUTS)
    ] = 8
    completer: Annotated[
        Completer,
        typer.Option(
            help="Who writes prefixes and completions: anybody (random, the paper), the anchor "
            "(anchored) or the current switcher, the last two straying with --epsilon.",
            rich_help_panel=ROLLOUTS,
        ),
    ] = Completer.random
    epsilon: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="How often the completer strays.", rich_help_panel=ROLLOUTS
        ),
    ] = 0.3
    early_stop: Annotated[
        bool,
        typer.Option(
            "--early-stop",
            help="Stop completing a branch that can no longer win.",
            rich_help_panel=ROLLOUTS,
        ),
    ] = False
    rounds: Annotated[
        int,
        typer.Option(
            min=1,
            help="Rounds; from the second on the switcher trained on the rounds before completes.",
            rich_help_panel=ROLLOUTS,
        ),
    ] = 1
    in_flight: Annotated[
        int,
        typer.Option(min=1, help="Questions per stored shard.", rich_help_panel=ROLLOUTS),
    ] = 16


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How weights are trained."""

    method: Annotated[
        Method,
        typer.Option(
            help="LoRA, all weights (full), or by size (auto: full under 50 M parameters).",
            rich_help_panel=TRAINING,
        ),
    ] = Method.auto
    epochs: Annotated[
        int | None,
        typer.Option(
            help="Passes over the rows; default: 5, more where all weights learn from few.",
            rich_help_panel=TRAINING,
        ),
    ] = None
    learning_rate: Annotated[
        float | None,
        typer.Option(help="Default: 1e-5 for LoRA, 1e-3 for full.", rich_help_panel=TRAINING),
    ] = None
    rows_per_step: Annotated[
        int | None, typer.Option(min=1, help="Rows per step.", rich_help_panel=TRAINING)
    ] = None
    training_seed: Annotated[
        int,
        typer.Option(min=0, help="Of the order of rows and of dropout.", rich_help_panel=TRAINING),
    ] = 0


@dataclass(frozen=True, kw_only=True)
class LabelOptions:
    """Where a switcher starts, and what it learns."""

    base: Annotated[
        str | None,
        typer.Option(
            help="Where the switcher starts: a candidate's name (default: the anchor), or a model "
            "of any size and family by path or Hub repo.",
            rich_help_panel=TRAINING,
        ),
    ] = None
    head: Annotated[
        Head | None,
        typer.Option(
            help="Train no model but a head on the hidden state of --base, a candidate.",
            rich_help_panel=TRAINING,
        ),
    ] = None
    soft_labels: Annotated[
        bool,
        typer.Option(
            "--soft-labels",
            help="Learn the softmax of the utilities instead of the best candidate.",
            rich_help_panel=TRAINING,
        ),
    ] = False
    keep_ties: Annotated[
        bool,
        typer.Option("--keep-ties", help="Train on ties too.", rich_help_panel=TRAINING),
    ] = False


@dataclass(frozen=True, kw_only=True)
class DistillOptions:
    """Which responses are learned from."""

    queries: Annotated[
        int | None,
        typer.Option(min=1, help="Training questions; default: all.", rich_help_panel=TASK),
    ] = None
    questions: Annotated[
        int | None,
        typer.Option(
            min=1, help="Questions of the test split; default: all.", rich_help_panel=TASK
        ),
    ] = None
    min_score: Annotated[
        float | None,
        typer.Option(help="Learn from responses of at least this score.", rich_help_panel=TRAINING),
    ] = None
    best_of: Annotated[
        int,
        typer.Option(min=1, help="Answer so often, learn from the best.", rich_help_panel=TRAINING),
    ] = 1


@dataclass(frozen=True, kw_only=True)
class ClusterOptions:
    """Where work runs, if not in this process."""

    ray: Annotated[
        str | None,
        typer.Option(
            metavar="local|auto|HOST:PORT",
            help="Spread the work over a Ray cluster: one started here (local), this machine's "
            "(auto), or the one with that head. The rows are the same. Extra: ray.",
            rich_help_panel=CLUSTER,
        ),
    ] = None
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Ray workers, which each load the models; default: 1.",
            rich_help_panel=CLUSTER,
        ),
    ] = None
    gpus_per_worker: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="GPUs of a worker; default: 1 where there are any. 0.5: two workers share one.",
            rich_help_panel=CLUSTER,
        ),
    ] = None
    cpus_per_worker: Annotated[
        float, typer.Option(min=0.1, help="CPUs of a worker.", rich_help_panel=CLUSTER)
    ] = 1


OutOption = Annotated[Path, typer.Option(help="Folder of the results.", rich_help_panel=OUTPUT)]
