"""Builds the embedded family from nothing: `python -m recipes.tiny_family`.

Steps: tokenizer, pretraining, finetuning, alignment, rollouts and switcher, report, card. Each
step writes into the output folder, so `--start STEP` goes on from what is there.
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

from recipes.tiny_family import stages
from recipes.tiny_family.card import write_card
from recipes.tiny_family.evaluate import evaluate
from recipes.tiny_family.learn import learn
from recipes.tiny_family.pack import SWITCHER, load_checkpoint, save_checkpoint, save_switch
from recipes.tiny_family.questions import QUESTION_TYPES, draw_questions
from recipes.tiny_family.sampler import GreedyModel
from recipes.tiny_family.switching import NAMES, Family
from recipes.tiny_family.tokenizer import train_tokenizer
from recipes.tiny_family.world import World, build_world

STEPS = (*NAMES, SWITCHER, "report", "card")
TEST_SEED = 40_409
"""Draws the report's questions; nothing was chosen by looking at them."""
TEST_QUESTIONS = 400
SAMPLE_QUESTIONS = 40
"""Per type, in `questions.jsonl`."""
_OUT = Path(__file__).parents[2] / "langgraph_switch" / "tiny"


class Build:
    """The steps of one build, and its log."""

    def __init__(self, folder: Path, seed: int) -> None:
        """Prepare a build.

        Args:
            folder: Where every artifact is written.
            seed: Draws the data and the training order.
        """
        self._folder = folder
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
        models = [load_checkpoint(self._folder / name) for name in NAMES]
        candidates = tuple(
            GreedyModel(model, may_stop=index > 0) for index, model in enumerate(models)
        )
        family = Family(self._tokenizer(), candidates)
        learned = learn(family, models[-1], self._world, self._seed)
        save_checkpoint(self._folder / SWITCHER, learned.model, self._tokenizer())
        save_switch(self._folder)
        return {"rounds": learned.rounds}

    def _report(self) -> None:
        questions = {
            kind: draw_questions(TEST_SEED, self._world, "held", kind, TEST_QUESTIONS)
            for kind in QUESTION_TYPES
        }
        report = {"test_seed": TEST_SEED} | evaluate(
            self._folder, questions, sample=SAMPLE_QUESTIONS
        )
        _write_json(self._folder / "scores.json", report)
        with (self._folder / "questions.jsonl").open("w", encoding="utf-8") as file:
            for kind in QUESTION_TYPES:
                for question in questions[kind][:SAMPLE_QUESTIONS]:
                    row = {"query": question.query, "answer": question.answer, "type": kind}
                    file.write(json.dumps(row) + "\n")

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
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", choices=STEPS, default=STEPS[0])
    parser.add_argument("--end", choices=STEPS, default=STEPS[-1])
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    build = Build(options.out, options.seed)
    for step in STEPS[STEPS.index(options.start) : STEPS.index(options.end) + 1]:
        build.run(step)


if __name__ == "__main__":
    main()
