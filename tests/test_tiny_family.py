"""The embedded family: what is shipped scores what its card says."""

from __future__ import annotations

import json
from collections import Counter
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from langgraph_switch import CheckpointLLM, SwitchLLM
from langgraph_switch.config import GREEDY
from langgraph_switch.families import embedded_config
from langgraph_switch.trace_llm import TraceLLM
from recipes.tiny_family.questions import QUESTION_TYPES, last_number

FOLDER = Path(str(files("langgraph_switch") / "tiny"))
SCORES: dict[str, Any] = json.loads((FOLDER / "scores.json").read_text(encoding="utf-8"))
QUESTIONS = [
    json.loads(line)
    for line in (FOLDER / "questions.jsonl").read_text(encoding="utf-8").splitlines()
]


def right_answers(llm: TraceLLM) -> dict[str, int]:
    texts = llm.batch([question["query"] for question in QUESTIONS])
    right = Counter(
        question["type"]
        for question, text in zip(QUESTIONS, texts, strict=True)
        if last_number(text) == question["answer"]
    )
    return {kind: right[kind] for kind in QUESTION_TYPES}


def checkpoint(name: str) -> CheckpointLLM:
    config = embedded_config()
    spec = config.candidate(name)
    return CheckpointLLM(
        model=config.resolve_model(spec.model),
        prompt=spec.prompt,
        sampling=GREEDY,
        max_tokens=config.max_tokens,
    )


@pytest.mark.parametrize("condition", ["trained switcher", "finetuned alone", "aligned alone"])
def test_the_shipped_weights_answer_as_the_card_says(condition: str) -> None:
    name = condition.split(maxsplit=1)[0]
    llm = SwitchLLM.embedded() if name == "trained" else checkpoint(name)
    found, recorded = right_answers(llm), SCORES["right_in_sample"][condition]
    # Other processors round otherwise: an answer may tip over, no more.
    assert all(abs(found[kind] - recorded[kind]) <= 1 for kind in QUESTION_TYPES), found


def test_switching_beats_every_checkpoint_on_one_entity_with_intervals_apart() -> None:
    scores = SCORES["scores"]
    trained = scores["trained switcher"]["one_entity"]
    assert trained["number"] >= 300
    for other in ("pretrained alone", "finetuned alone", "aligned alone", "random switching"):
        assert scores[other]["one_entity"]["high"] < trained["low"]


def test_the_familys_example_comes_out_right() -> None:
    answer = SwitchLLM.embedded().invoke("How many legs do 3 spiders and 2 cats have in total?")
    assert last_number(answer) == 32


def test_the_family_is_small_and_safe() -> None:
    weights = list(FOLDER.glob("*/model.safetensors"))
    assert len(weights) == 4
    assert sum(file.stat().st_size for file in weights) < 12e6
    assert not [file for file in FOLDER.rglob("*") if file.suffix in {".bin", ".pt", ".pkl"}]


def test_the_card_states_the_measured_scores() -> None:
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    for by_kind in SCORES["scores"].values():
        for score in by_kind.values():
            assert f"{score['percent']:.1f} [{score['low']:.1f}, {score['high']:.1f}]" in card
