"""The report: the package's evaluation on the test split, in the short form that is shipped.

This module does not know how anything was trained.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from langgraph_switch.config import SwitchConfig
from langgraph_switch.offline import EvaluationJob, Response, evaluate_switch
from langgraph_switch.switch import Switch
from langgraph_switch.tasks import Example, Task

SAMPLE_QUESTIONS = 40
"""Per type, in `questions.jsonl`: asked again by the tests."""
_TRAINED = "trained switcher"


def measure(folder: Path, task: Task, work: Path) -> None:
    """Write `scores.json` and `questions.jsonl` into the family's folder."""
    job = EvaluationJob(switch=Switch(SwitchConfig.load(folder)), task=task, out=work)
    analysis = evaluate_switch(job)["analysis"]
    types = list(analysis["conditions"][_TRAINED]["by_type"])
    chosen = sample(job.examples)
    report = {
        "task": task.record(task.test_split),
        "scores": {
            name: {kind: _percent(one["by_type"][kind]) for kind in types}
            for name, one in analysis["conditions"].items()
        },
        "right_in_sample": {
            name: _right(job.responses(name), chosen, types)
            for name in analysis["conditions"]
            if name in job.conditions
        },
        "differences": analysis["differences"],
        "leave_one_out": analysis["leave_one_out"],
        "solved_by_none": analysis["solved_by_none"],
        "tokens_by_candidate": _tokens(job.responses(_TRAINED), job.examples),
    }
    text = json.dumps(report, indent=2) + "\n"
    (folder / "scores.json").write_text(text, encoding="utf-8")
    lines = [
        json.dumps(
            {
                "query": one.query,
                "answer": int(one.references[0]),
                "type": one.meta["type"],
            }
        )
        for _, one in chosen
    ]
    (folder / "questions.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def sample(examples: tuple[Example, ...]) -> list[tuple[int, Example]]:
    """Return the first questions of every type with their places."""
    by_type: dict[str, list[tuple[int, Example]]] = defaultdict(list)
    for place, one in enumerate(examples):
        by_type[str(one.meta["type"])].append((place, one))
    return [pair for found in by_type.values() for pair in found[:SAMPLE_QUESTIONS]]


def _right(
    responses: list[Response], chosen: list[tuple[int, Example]], types: list[str]
) -> dict[str, int]:
    found = dict.fromkeys(types, 0)
    for place, one in chosen:
        found[str(one.meta["type"])] += int(responses[place].score or 0)
    return found


def _percent(one: dict[str, Any]) -> dict[str, float]:
    percent = {
        key: round(100 * one[name], 1)
        for key, name in (("percent", "mean"), ("low", "low"), ("high", "high"))
    }
    return percent | {"number": one["n"]}


def _tokens(responses: list[Response], examples: tuple[Example, ...]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for response, example in zip(responses, examples, strict=True):
        for name, number in response.trace.tokens_by_speaker().items():
            found[str(example.meta["type"])][name] += number
    return {kind: dict(counts) for kind, counts in found.items()}
