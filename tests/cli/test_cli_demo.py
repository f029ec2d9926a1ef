from __future__ import annotations

import json

import pytest
from conftest import Cli

from langgraph_switch.cli import demo
from langgraph_switch.cli.demo import DemoQuestion, pick_questions
from langgraph_switch.families import embedded_config


def test_demo_answers_and_scores(
    cli: Cli, candidates: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = [DemoQuestion("What is 1 plus 1?", 2, "a"), DemoQuestion("Who?", "nobody", "b")]
    monkeypatch.setattr(demo, "read_questions", lambda: questions)
    done = cli("demo", *candidates)
    assert done.exit_code == 0, done.output
    for words in ("> What is 1 plus 1?", "> Who?", "of 2 answers are right", "speaker"):
        assert words in done.output


def test_questions_come_from_every_kind_in_turn() -> None:
    questions = [DemoQuestion(f"{kind}{n}", kind=kind) for kind in "abc" for n in range(3)]
    assert [q.query for q in pick_questions(questions, 5)] == ["a0", "b0", "c0", "a1", "b1"]


@pytest.mark.parametrize(
    ("answer", "response", "is_right"),
    [
        (32, "3 * 8 = 24, 24 + 8 = 32.", True),
        (32, "32, or 33", False),
        (3, "none", False),
        ("Paris", "It is paris ", True),
        ("Paris", "Paris is not it", False),
    ],
)
def test_right_answers(answer: object, response: str, is_right: bool) -> None:
    assert DemoQuestion("?", answer).is_right(response) is is_right


def test_the_embedded_family_answers(cli: Cli) -> None:
    try:
        embedded_config()
    except ValueError:
        pytest.skip("the embedded family is not built yet")
    done = cli(
        "run", "--json", "--seed", "1", "How many legs do 3 spiders and 2 cats have in total?"
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["text"].strip()
    done = cli("demo", "--count", "2")
    assert done.exit_code == 0, done.output
