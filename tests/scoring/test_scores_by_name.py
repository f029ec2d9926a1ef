"""Scores by name, functions, judges, reward models, math, and rows that cannot be judged."""

from __future__ import annotations

import json
import math
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from langchain_core.language_models import FakeListLLM
from langchain_core.runnables import RunnableLambda
from rows import answer
from tiny_models import TEMPLATE, byte_tokenizer
from transformers import LlamaConfig, LlamaForSequenceClassification

from langgraph_switch.errors import ConfigError, ModelLoadError, SwitchError
from langgraph_switch.scoring import (
    Answer,
    FunctionScore,
    make_score,
    register_score,
    score_answers,
    score_names,
    score_to_json,
    summarize,
)
from langgraph_switch.trace import Message


def brevity(response: Answer) -> float:
    return 1 / (1 + len(response.response))


@pytest.mark.parametrize("name", ["exact_match", "numeric", "multiple_choice", "f1", "math"])
def test_scores_have_names_and_describe_themselves(name: str) -> None:
    score = make_score(name)
    assert score.name == name
    assert name in score_names()
    assert make_score(score_to_json(score)) == score


def test_settings_are_checked() -> None:
    score = make_score({"name": "numeric", "rel_tol": 0.1})
    assert score_answers(score, [answer("10.5", "10")])[0].value == 1.0
    assert score_to_json(score) == {"name": "numeric", "rel_tol": 0.1}
    with pytest.raises(ConfigError, match="no setting 'tolerance'"):
        make_score({"name": "numeric", "tolerance": 1})
    with pytest.raises(ConfigError, match="rel_tol is 'much'"):
        make_score({"name": "numeric", "rel_tol": "much"})


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("exact", "no score 'exact'"),
        ("coding", "would run code"),
        ("no.such.module:function", "Cannot import"),
        ("math:sqrt", "takes nothing behind a colon"),
        ("json:no_such_function", "has no 'no_such_function'"),
        ({}, "has no name"),
        (3, "is no score"),
    ],
)
def test_what_is_no_score_is_refused(spec: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as info:
        make_score(spec)
    assert info.value.hint


def test_a_function_by_path_or_by_itself() -> None:
    named = make_score(f"{__name__}:brevity")
    assert named.name.endswith(":brevity")
    both = [score_answers(one, [answer("abc")])[0].value for one in (named, make_score(brevity))]
    assert both == [0.25, 0.25]
    pair = FunctionScore(lambda response, references: float(references[0] in response))
    assert pair.needs_references
    assert score_answers(pair, [answer("xyz", "y")])[0].value == 1.0
    with pytest.raises(ConfigError, match="needs 3 arguments"):
        FunctionScore(lambda a, b, c: 0.0)  # type: ignore[misc,arg-type]  # noqa: ARG005


def test_a_registered_score_takes_its_settings() -> None:
    register_score("constant", lambda value=1.0: FunctionScore(lambda _: value, name="constant"))
    spec = {"name": "constant", "value": 0.5}
    assert score_answers(make_score(spec), [answer("x")])[0].value == 0.5
    with pytest.raises(ConfigError, match="cannot be called 'numeric'"):
        register_score("numeric", lambda: FunctionScore(brevity))


@pytest.mark.parametrize(
    ("reply", "value"),
    [("0.8", 0.8), ("Grade: 7/10", 0.7), ("80 %", 0.8), ("I would say 1", 1.0), ("good", None)],
)
def test_a_runnable_judges(reply: str, value: float | None) -> None:
    judge = make_score(FakeListLLM(responses=[reply]))
    (found,) = score_answers(judge, [answer("four", "4", query="2 + 2?")])
    assert found.value == value
    assert (found.error is None) == (value is not None)


def test_a_judge_reads_question_response_and_references() -> None:
    seen: list[str] = []

    def grade(prompt: Any) -> str:
        seen.append(str(prompt))
        return "1"

    score_answers(make_score(RunnableLambda(grade)), [answer("four", "4", query="2 + 2?")])
    assert all(word in seen[0] for word in ("2 + 2?", "four", "4"))


def test_rows_that_raise_or_are_no_number_are_marked_and_the_others_kept() -> None:
    def judge(one: Answer) -> Any:
        values = {"nan": math.nan, "inf": math.inf, "word": "high", "none": None, "ok": 0.5}
        if one.response == "raise":
            raise RuntimeError("boom")
        return values[one.response]

    rows = [answer(name) for name in ("ok", "raise", "nan", "inf", "word", "none", "ok")]
    found = score_answers(FunctionScore(judge), rows)
    assert [one.value for one in found] == [0.5, None, None, None, None, None, 0.5]
    assert "boom" in (found[1].error or "")
    summary = summarize(found)
    assert (summary.mean, summary.num_scored, summary.num_failed) == (0.5, 2, 5)
    assert "5 failed" in str(summary)


def test_a_score_that_fails_as_a_whole_is_asked_row_by_row() -> None:
    class Fragile:
        name = "fragile"
        needs_references = False

        def __call__(self, answers: Any) -> list[float]:
            if any(one.response == "bad" for one in answers):
                raise ValueError("bad row")
            return [1.0] * len(answers)

    found = score_answers(Fragile(), [answer("a"), answer("bad"), answer("c")])
    assert [one.value for one in found] == [1.0, None, 1.0]


def test_a_score_must_return_one_value_per_answer() -> None:
    class Short:
        name = "short"
        needs_references = False

        def __call__(self, answers: Any) -> list[float]:
            return [1.0] * (len(answers) - 1)

    with pytest.raises(SwitchError, match="returned 1 values for 2 answers"):
        score_answers(Short(), [answer("a"), answer("b")])


MATH = [
    (r"\boxed{\frac{1}{2}}", "0.5", 1.0),
    (r"The answer is $\frac{2}{4}$.", r"\frac{1}{2}", 1.0),
    (r"So $x = \sqrt{8}$", r"2\sqrt{2}", 1.0),
    ("The answer is 3", "4", 0.0),
    (r"\boxed{(1, 2)}", "(1,2)", 1.0),
]


@pytest.mark.parametrize(("response", "reference", "value"), MATH)
def test_equivalent_expressions_are_equal(response: str, reference: str, value: float) -> None:
    assert score_answers(make_score("math"), [answer(response, reference)])[0].value == value


def test_math_works_off_the_main_thread() -> None:
    found: list[float | None] = []

    def work() -> None:
        found.append(score_answers(make_score("math"), [answer("$1/2$", "0.5")])[0].value)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [1.0]


def classifier(folder: Path, *, labels: int = 1, template: str | None = TEMPLATE) -> Path:
    tokenizer = byte_tokenizer(template)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=128,
        num_labels=labels,
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
        initializer_range=0.5,
    )
    LlamaForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_reward_model_reads_the_real_dialogue_and_batches_change_nothing(tmp_path: Path) -> None:
    folder = classifier(tmp_path)
    responses = ["yes", "no, never", "yes", "perhaps some other day"]
    rows = [answer(text, query="Is it?") for text in responses]
    together = [one.value for one in score_answers(make_score(f"reward_model:{folder}"), rows)]
    alone = [
        score_answers(make_score({"name": "reward_model", "model": str(folder)}), [row])[0].value
        for row in rows
    ]
    assert together == pytest.approx(alone, abs=1e-4)
    assert together[0] == pytest.approx(together[2], abs=1e-4)
    assert len({round(value or 0, 4) for value in together}) == 3
    text = "<|user|>Is it?\n<|assistant|>yes\n"
    ids = torch.tensor([byte_tokenizer(TEMPLATE)(text)["input_ids"]])
    with torch.inference_mode():
        expected = LlamaForSequenceClassification.from_pretrained(folder)(ids).logits[0, 0].item()
    assert together[0] == pytest.approx(expected, abs=1e-3)


def test_a_dialogue_that_does_not_fit_marks_its_row(tmp_path: Path) -> None:
    score = make_score(f"reward_model:{classifier(tmp_path)}")
    fits, long = score_answers(score, [answer("short"), answer("x" * 500)])
    assert fits.value is not None
    assert "128" in (long.error or "")


def test_a_reward_model_without_a_template_or_with_many_labels_is_refused(tmp_path: Path) -> None:
    plain = classifier(tmp_path / "plain", template=None)
    with pytest.raises(ModelLoadError, match="template"):
        score_answers(make_score(f"reward_model:{plain}"), [answer("x")])
    many = classifier(tmp_path / "many", labels=3)
    with pytest.raises(ConfigError, match="label"):
        score_answers(make_score(f"reward_model:{many}"), [answer("x")])
    chosen = make_score({"name": "reward_model", "model": str(many), "label": 1})
    value = score_answers(chosen, [answer("x")])[0].value
    assert value is not None
    assert 0 <= value <= 1


def test_a_dialogue_of_several_turns_is_scored_as_it_was() -> None:
    turns = (Message(role="system", content="s"), Message(role="user", content="u"))
    row = Answer(messages=turns, response="r")
    assert json.loads(json.dumps(row.query)) == "System: s\n\nUser: u"
