"""The switcher: rounds of rollouts and training by the package's own graphs.

Round 1 is completed by the aligned checkpoint, which strays now and then (completed at random,
most two-entity questions are never answered, so nothing would be learned about them); every later
round by the switcher of the rounds before. The round that does best on the dev split is kept. This
module does not know how rollouts are made or weights are trained.
"""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from pathlib import Path
from statistics import fmean
from typing import Any

from langgraph_switch.config import SwitchConfig
from langgraph_switch.offline import (
    RolloutSettings,
    RowSettings,
    SftSettings,
    collect_rollouts,
    prepare_rounds,
    respond,
    train_switcher,
)
from langgraph_switch.switch import Switch
from langgraph_switch.tasks import Task

ROUNDS = 2
QUERIES = 1800
COMPLETIONS = 5
EPSILON = 0.3
TRAINING = SftSettings(learning_rate=5e-4)
LABELS = RowSettings(soft_labels=True)


def learn_switcher(config: SwitchConfig, task: Task, work: Path, *, seed: int) -> dict[str, Any]:
    """Return the folder of the best switcher, and what each round did."""
    rounds: list[dict[str, Any]] = []
    jobs = prepare_rounds(
        config,
        task,
        out=work,
        rounds=ROUNDS,
        queries=QUERIES,
        settings=RolloutSettings(
            completer="anchored", completions=COMPLETIONS, epsilon=EPSILON, seed=seed
        ),
        training=TRAINING,
    )
    started = time.perf_counter()
    for number, job in enumerate(jobs, start=1):
        summary = collect_rollouts(job).summary
        folders = [work / f"round-{earlier}" for earlier in range(1, number + 1)]
        trained = train_switcher(
            folders, out=work / f"switcher-{number}", rows=LABELS, settings=TRAINING
        )
        rounds.append(
            {
                "completer": job.settings.completer,
                "queries": summary["rows"],
                "decided": summary["decided"],
                "completions": summary["completions"],
                "training_rows": trained.counts["training"],
                "steps": trained.finetuned["steps"],
                "held_out": {
                    name: trained.metrics[name]["mean"] for name in ("accuracy", "regret")
                },
                "dev_percent": dev_scores(trained.folder, task),
                "seconds": round(time.perf_counter() - started),
            }
        )
        started = time.perf_counter()
    best = max(range(ROUNDS), key=lambda i: fmean(rounds[i]["dev_percent"].values()))
    rounds[best]["kept"] = True
    return {"folder": str(work / f"switcher-{best + 1}"), "rounds": rounds}


def dev_scores(folder: Path, task: Task) -> dict[str, float]:
    """Return a switch's percentage of right answers on the dev split, by question type."""
    examples = task.split("dev")
    responses = respond(Switch(SwitchConfig.load(folder)), examples, task.score, seed=0)
    by_type: dict[str, list[float]] = defaultdict(list)
    for example, response in zip(examples, responses, strict=True):
        by_type[str(example.meta["type"])].append(response.score or 0.0)
    return {kind: round(100 * fmean(scores), 1) for kind, scores in by_type.items()}


def ship(trained: str | Path, folder: Path) -> None:
    """Put a trained switcher's weights where the family's `switch.json` looks for them."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(Path(trained) / "model", folder)
