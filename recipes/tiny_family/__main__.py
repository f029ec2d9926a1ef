"""Builds the embedded family from nothing: `python -m recipes.tiny_family`.

Steps: tokenizer, pretraining, finetuning, alignment, tasks, rollouts and switcher, report, card.
Each step writes into the output folder, so `--start STEP` goes on from what is there.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from langgraph_switch.config import RandomSwitcherSpec
from langgraph_switch.tasks import Task, load_task
from recipes.tiny_family import stages
from recipes.tiny_family.card import write_card
from recipes.tiny_family.learning import learn_switcher, ship
from recipes.tiny_family.pack import NAMES, SWITCHER, load_checkpoint, save_checkpoint, save_switch
from recipes.tiny_family.scores import measure
from recipes.tiny_family.tasks import write_tasks
from recipes.tiny_family.tokenizer import train_tokenizer
from recipes.tiny_family.world import World, build_world

STEPS = (*NAMES, "tasks", SWITCHER, "report", "card")
_TASK = "mixed"
_OUT = Path(__file__).parents[2] / "langgraph_switch" / "tiny"


class Build:
    """The steps of one build, and its log."""

    def __init__(self, folder: Path, work: Path, seed: int) -> None:
        """Prepare a build.

        Args:
            folder: Where every artifact is written.
            work: Where rollouts, trainings and answers lie.
            seed: Draws the data and the training order.
        """
        self._folder = folder
        self._work = work
        self._plan = stages.default_plan(seed)
        self._seed = seed
        self._world: World = build_world()
        folder.mkdir(parents=True, exist_ok=True)

    def run(self, step: str) -> None:
        """Do one step and log its time."""
        started = time.perf_counter()
        print(f"[{step}] ...", flush=True)
        steps: dict[str, Callable[[], dict[str, Any] | None]] = {
            NAMES[0]: self._pretrain,
            NAMES[1]: lambda: self._next_stage(1, stages.finetune),
            NAMES[2]: lambda: self._next_stage(2, stages.align),
            "tasks": lambda: write_tasks(self._folder, self._world),
            SWITCHER: self._learn_switcher,
            "report": self._report,
            "card": lambda: write_card(self._folder),
        }
        made = steps[step]()
        seconds = round(time.perf_counter() - started)
        print(f"[{step}] {seconds} s", flush=True)
        if made is not None:
            self._log(step, made | {"seconds": seconds})

    def _pretrain(self) -> dict[str, Any]:
        tokenizer = train_tokenizer(self._seed, self._world)
        model = stages.pretrain(tokenizer, self._world, self._plan.pretraining)
        save_checkpoint(self._folder / NAMES[0], model, tokenizer)
        parameters = sum(p.numel() for p in model.parameters())
        return asdict(self._plan.pretraining) | {"parameters": parameters}

    def _next_stage(self, index: int, make: Callable[..., Any]) -> dict[str, Any]:
        schedule = (self._plan.pretraining, self._plan.finetuning, self._plan.alignment)[index]
        start = load_checkpoint(self._folder / NAMES[index - 1])
        model = make(self._tokenizer(), start, self._world, schedule)
        save_checkpoint(self._folder / NAMES[index], model, self._tokenizer())
        return asdict(schedule)

    def _learn_switcher(self) -> dict[str, Any]:
        config = save_switch(self._folder).with_changes(switcher=RandomSwitcherSpec())
        learned = learn_switcher(config, self._task(), self._work / "rounds", seed=self._seed)
        ship(learned["folder"], self._folder / SWITCHER)
        return {"rounds": learned["rounds"]}

    def _report(self) -> None:
        measure(self._folder, self._task(), self._work / "report")

    def _task(self) -> Task:
        return load_task(self._folder / "tasks" / f"{_TASK}.json")

    def _tokenizer(self) -> PreTrainedTokenizerFast:
        tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(
            self._folder / NAMES[0]
        )
        return tokenizer

    def _log(self, step: str, entry: dict[str, Any]) -> None:
        path = self._folder / "training.json"
        log = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        _write_json(path, log | {step: entry})


def _write_json(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Run the steps from `--start` to `--end`."""
    parser = argparse.ArgumentParser(prog="python -m recipes.tiny_family", description=__doc__)
    parser.add_argument("--out", type=Path, default=_OUT, help="folder of the artifacts")
    parser.add_argument("--work", type=Path, default=Path("runs/tiny"), help="folder of the rest")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", choices=STEPS, default=STEPS[0])
    parser.add_argument("--end", choices=STEPS, default=STEPS[-1])
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    build = Build(options.out, options.work, options.seed)
    for step in STEPS[STEPS.index(options.start) : STEPS.index(options.end) + 1]:
        build.run(step)


if __name__ == "__main__":
    main()
