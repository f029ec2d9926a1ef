"""What decides how well a switcher learns: who completes, which labels, how long a segment is.

python -m recipes.tiny_family.ablation --out FOLDER

Every cell: rollouts, one training, answers to the dev split (choices are made there; the test
split is for the report alone). Cells that are there are not made again. Figures go to
`results/ablation.json`. This module does not know how any step is done.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from langgraph_switch.config import SegmentSpec, SwitchConfig
from langgraph_switch.families import embedded_config
from langgraph_switch.offline import (
    RolloutSettings,
    RowSettings,
    SftSettings,
    collect_rollouts,
    prepare_rollouts,
    respond,
    train_switcher,
)
from langgraph_switch.offline.labels import early_stopped, utilities
from langgraph_switch.offline.shards import read_rows
from langgraph_switch.offline.statistics import mean_interval
from langgraph_switch.solo import solo
from langgraph_switch.switch import Switch
from langgraph_switch.tasks import Task, load_task

SEGMENTS = {
    "3 tokens": SegmentSpec(max_tokens=3),
    "6 tokens": SegmentSpec(max_tokens=6),
    "12 tokens": SegmentSpec(max_tokens=12),
    "a sentence": SegmentSpec(max_tokens=16, end_at="sentence"),
}
COMPLETERS = ("random", "anchored", "switcher")
LABELS = ("hard", "soft")
SPLIT = "dev"
TRAINING = SftSettings()
RESULTS = Path(__file__).parent / "results"


class Ablation:
    """The cells of the table, each in a folder of its own."""

    def __init__(self, out: Path, *, queries: int, seed: int) -> None:
        self._out = out
        self._queries = queries
        self._seed = seed
        self._task: Task = load_task("tiny/compose")
        self._family = embedded_config()

    def cell(self, segment: str, completer: str, labels: str) -> dict[str, Any]:
        """Return a cell's score, and make it first if it is not there."""
        folder = self._out / segment.replace(" ", "-")
        file = folder / f"{completer}-{labels}.json"
        if file.is_file():
            found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            return found
        switcher = self._train(folder, self._rollouts(folder, segment, completer), labels)
        found = self._score(Switch(SwitchConfig.load(switcher)))
        file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        return found

    def anchor(self) -> dict[str, Any]:
        """Return the score of the anchor alone."""
        switch = Switch(self._family)
        return self._score(solo(switch, switch.config.anchor_name))

    def early_stop(self, segment: str, completer: str) -> dict[str, Any]:
        """Return what early stopping would have saved of a cell's rollouts, at what loss."""
        rows = list(read_rows(self._out / segment.replace(" ", "-") / completer))
        kept = [early_stopped(row["scores"]) for row in rows]
        labels = [utilities(one, temperature=1).label for one in kept]
        completions = sum(row["num_completions"] for row in rows)
        saved = completions - sum(len(scores) for one in kept for scores in one)
        same = sum(label == row["label"] for label, row in zip(labels, rows, strict=True))
        return {
            "rows": len(rows),
            "completions": completions,
            "saved_share": saved / completions,
            "label_agreement": same / len(rows),
            "decided": sum(not row["is_tie"] for row in rows),
        }

    def _rollouts(self, folder: Path, segment: str, completer: str) -> Path:
        config = self._family.with_changes(segment=SEGMENTS[segment])
        if completer == "switcher":  # On-policy: the switcher of the anchored round.
            first = self._train(folder, self._rollouts(folder, segment, "anchored"), "soft")
            config = SwitchConfig.load(first)
        out = folder / completer
        job = prepare_rollouts(
            config,
            self._task,
            out=out,
            queries=self._queries,
            settings=RolloutSettings(completer=completer, seed=self._seed),
        )
        collect_rollouts(job)
        return out

    def _train(self, folder: Path, rollouts: Path, labels: str) -> Path:
        out = folder / f"switcher-{rollouts.name}-{labels}"
        rows = RowSettings(soft_labels=labels == "soft")
        return train_switcher(rollouts, out=out, rows=rows, settings=TRAINING).folder

    def _score(self, switch: Switch) -> dict[str, Any]:
        examples = self._task.split(SPLIT)
        responses = respond(switch, examples, self._task.score, seed=self._seed)
        found: dict[str, Any] = {}
        for kind in ("one_entity", "two_entities", None):
            pairs = [
                (one.score or 0.0, str(example.meta["cluster"]))
                for one, example in zip(responses, examples, strict=True)
                if kind in {None, example.meta["type"]}
            ]
            scores, clusters = zip(*pairs, strict=True)
            found[kind or "all"] = asdict(mean_interval(scores, clusters))
        return found


def main() -> None:
    """Make every cell, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m recipes.tiny_family.ablation")
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--queries", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--segment", choices=SEGMENTS, action="append", help="default: all")
    options = parser.parse_args()
    torch.set_num_threads(1)
    ablation = Ablation(options.out, queries=options.queries, seed=options.seed)
    cells = {"anchor alone": ablation.anchor()}
    for segment in options.segment or SEGMENTS:
        for completer in COMPLETERS:
            for labels in LABELS:
                name = f"{segment}, {completer}, {labels}"
                cells[name] = ablation.cell(segment, completer, labels)
                print(name, _line(cells[name]), flush=True)
    found = {
        "queries": options.queries,
        "split": SPLIT,
        "cells": cells,
        "early_stop": {name: ablation.early_stop("6 tokens", name) for name in COMPLETERS},
    }
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(found, indent=2) + "\n"
    (RESULTS / "ablation.json").write_text(text, encoding="utf-8")


def _line(cell: dict[str, Any]) -> str:
    return "  ".join(
        f"{kind} {100 * one['mean']:.1f} [{100 * one['low']:.1f}, {100 * one['high']:.1f}]"
        for kind, one in cell.items()
    )


if __name__ == "__main__":
    main()
