"""How long learning to switch takes on the embedded family, and how much of it is not model time.

python benchmarks/learning.py [--json FILE]

Runs rollout -> train -> evaluate -> distill as the commands do, and measures the time spent
inside engines (generate, label probabilities), training steps and loading; the rest is what the
state machines, prompts, scores and files cost.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from langgraph_switch import Switch, SwitchConfig
from langgraph_switch.engines.transformers_engine import TransformersEngine
from langgraph_switch.families import family_config
from langgraph_switch.offline import (
    DistillationJob,
    DistillSettings,
    EvaluationJob,
    RolloutSettings,
    RowSettings,
    collect_rollouts,
    distill_switch,
    distillation,
    evaluate_switch,
    learner,
    prepare_rollouts,
    train_switcher,
)
from langgraph_switch.tasks import load_task

TASK = "tiny/compose"


class ModelClock:
    """Adds up the time in which at least one thread is at work with a model."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._lock = threading.Lock()
        self._depth = 0
        self._since = 0.0

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, its calls measured."""

        def call(*args: Any, **kwargs: Any) -> Any:
            with self._lock:
                if self._depth == 0:
                    self._since = time.perf_counter()
                self._depth += 1
            try:
                return function(*args, **kwargs)
            finally:
                with self._lock:
                    self._depth -= 1
                    if self._depth == 0:
                        self.seconds += time.perf_counter() - self._since

        return call


@contextmanager
def model_clock() -> Iterator[ModelClock]:
    """Measure everything that computes with or loads weights."""
    clock = ModelClock()
    patched: list[tuple[Any, str]] = [
        (TransformersEngine, "generate"),
        (TransformersEngine, "label_logprobs"),
        (learner, "finetune"),
        (distillation, "finetune"),
    ]
    originals = [(owner, name, getattr(owner, name)) for owner, name in patched]
    try:
        for owner, name, original in originals:
            setattr(owner, name, clock.timed(original))
        yield clock
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)


def chain(folder: Path, *, queries: int, completer: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield the four steps."""
    task = load_task(TASK)
    settings = RolloutSettings(completer=completer)

    def rollout() -> Any:
        job = prepare_rollouts(
            family_config("tiny"), task, out=folder / "rollouts", queries=queries,
            settings=settings,
        )  # fmt: skip
        return collect_rollouts(job).summary

    def train() -> Any:
        rows = RowSettings(soft_labels=True)
        return train_switcher(folder / "rollouts", out=folder / "switcher", rows=rows).metrics

    def switch() -> Switch:
        return Switch(SwitchConfig.load(folder / "switcher"))

    def evaluate() -> Any:
        return evaluate_switch(EvaluationJob(switch=switch(), task=task, out=folder / "eval"))

    def distill() -> Any:
        job = DistillationJob(
            switch=switch(), task=task, out=folder / "distilled", settings=DistillSettings()
        )
        return distill_switch(job)

    yield "rollout", rollout
    yield "train", train
    yield "evaluate", evaluate
    yield "distill", distill


def main() -> None:
    """Run the chain and print where its time went."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=600)
    parser.add_argument("--completer", choices=("random", "anchored"), default="anchored")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--json",
        type=Path,
        help="where docs/generate.py reads: recipes/tiny_family/results/chain.json",
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    table = Table("step", "seconds", "in models", "everything else", "share")
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        steps = chain(Path(folder), queries=options.queries, completer=options.completer)
        for name, step in steps:
            with model_clock() as clock:
                started = time.perf_counter()
                step()
                seconds = time.perf_counter() - started
            rest = seconds - clock.seconds
            results[name] = {"seconds": seconds, "model_seconds": clock.seconds}
            table.add_row(
                name, f"{seconds:.0f}", f"{clock.seconds:.0f}", f"{rest:.1f}",
                f"{100 * rest / seconds:.1f} %",
            )  # fmt: skip
    whole = sum(one["seconds"] for one in results.values())
    models = sum(one["model_seconds"] for one in results.values())
    share = f"{100 * (whole - models) / whole:.1f} %"
    table.add_row("whole chain", f"{whole:.0f}", f"{models:.0f}", f"{whole - models:.1f}", share)
    Console(width=100).print(table)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
