"""The family's questions as tasks of the package: `tiny/compose` and `tiny/mixed`.

Rows name their split: `train` asks about the train pool, `dev` about the dev pool, `test` about
the held pool. This module does not know models.
"""

from __future__ import annotations

import json
from pathlib import Path

from recipes.tiny_family.questions import Question, QuestionType, draw_questions
from recipes.tiny_family.world import Pool, World

SEEDS = {"train": 300, "dev": 400, "test": 90_127}
"""The test seed is for the report alone; nothing was chosen by looking at its questions."""
_POOLS: dict[str, Pool] = {"train": "train", "dev": "dev", "test": "held"}

COMPOSE: dict[str, dict[QuestionType, int]] = {
    "train": {"one_entity": 1000, "two_entities": 1500},
    "dev": {"one_entity": 250, "two_entities": 350},
    "test": {"one_entity": 300, "two_entities": 500},
}
MIXED: dict[str, dict[QuestionType, int]] = {
    "train": {"recall": 150, "arithmetic": 250, "one_entity": 900, "two_entities": 1200},
    "dev": {"recall": 60, "arithmetic": 100, "one_entity": 100, "two_entities": 100},
    "test": {"recall": 300, "arithmetic": 300, "one_entity": 300, "two_entities": 500},
}
SCORE = "numeric"


def write_tasks(folder: Path, world: World) -> None:
    """Write the files into `folder/tasks`."""
    out = folder / "tasks"
    out.mkdir(parents=True, exist_ok=True)
    for name, mix in (("compose", COMPOSE), ("mixed", MIXED)):
        splits = {split: _rows(world, split, counts) for split, counts in mix.items()}
        (out / f"{name}.json").write_text(_json(splits), encoding="utf-8")


def _json(splits: dict[str, list[dict[str, str]]]) -> str:
    """Return the toolkit's layout, one row a line."""
    parts = [f'"task_type": "{SCORE}"']
    for split, rows in splits.items():
        parts.append(f'"{split}": [\n' + ",\n".join(json.dumps(row) for row in rows) + "\n]")
    return "{" + ",\n".join(parts) + "}\n"


def _rows(world: World, split: str, counts: dict[QuestionType, int]) -> list[dict[str, str]]:
    questions = [
        question
        for kind, number in counts.items()
        for question in draw_questions(SEEDS[split], world, _POOLS[split], kind, number)
    ]
    return [_row(question, f"{split}-{i:04d}") for i, question in enumerate(questions)]


def _row(question: Question, row_id: str) -> dict[str, str]:
    return {
        "id": row_id,
        "query": question.query,
        "answer": str(question.answer),
        "type": question.type,
        "cluster": question.cluster,
    }
