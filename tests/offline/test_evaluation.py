from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from langgraph_switch import Switch, SwitchLLM
from langgraph_switch.errors import ConfigError, InputError
from langgraph_switch.families import family_config
from langgraph_switch.offline.conditions import TRAINED
from langgraph_switch.offline.evaluation import (
    EvaluationJob,
    EvaluationSettings,
    build_evaluation_graph,
    evaluate_switch,
)
from langgraph_switch.offline.responses import fresh_trace
from langgraph_switch.scoring import Answer, FunctionScore
from langgraph_switch.tasks import Task, load_task

SETTINGS = EvaluationSettings(questions=6, batch_questions=4)


@pytest.fixture(scope="module")
def switch() -> Switch:
    return Switch(family_config("tiny"))


def job(switch: Switch, out: Path, task: Task | None = None, **changes: Any) -> EvaluationJob:
    settings = SETTINGS.model_copy(update=changes)
    return EvaluationJob(
        switch=switch, task=task or load_task("tiny/compose"), out=out, settings=settings
    )


@pytest.fixture(scope="module")
def whole(switch: Switch, tmp_path_factory: pytest.TempPathFactory) -> EvaluationJob:
    done = job(switch, tmp_path_factory.mktemp("whole"))
    evaluate_switch(done)
    return done


def texts(done: EvaluationJob) -> dict[str, list[tuple[str, float | None]]]:
    return {
        name: [(one.trace.text, one.score) for one in done.responses(name)]
        for name in done.conditions
    }


def refuse(_: object) -> None:
    raise AssertionError("nothing is to be done")


def test_what_is_stored_is_not_answered_again(whole: EvaluationJob) -> None:
    before = json.loads((whole.out / "evaluation.json").read_text(encoding="utf-8"))
    assert evaluate_switch(whole, on_event=refuse) == before
    assert all(len(found) == 6 for found in texts(whole).values())


def test_an_interrupted_evaluation_ends_like_an_uninterrupted_one(
    switch: Switch, whole: EvaluationJob, tmp_path: Path
) -> None:
    class Stop(Exception):  # noqa: N818 - an interruption, no error
        pass

    def after(number: int) -> Callable[[dict[str, Any]], None]:
        seen = 0

        def count(event: dict[str, Any]) -> None:
            nonlocal seen
            seen += event["responses"]
            if seen >= number:
                raise Stop

        return count

    for number in (3, 17):
        with pytest.raises(Stop):
            evaluate_switch(job(switch, tmp_path), on_event=after(number))
    again = job(switch, tmp_path)
    evaluate_switch(again)
    assert texts(again) == texts(whole)


def test_batched_answers_are_those_of_the_llm_one_by_one(
    switch: Switch, whole: EvaluationJob
) -> None:
    llm = SwitchLLM.embedded()
    for example, found in zip(whole.examples, whole.responses(TRAINED), strict=True):
        trace = fresh_trace(switch, example, seed=SETTINGS.seed)
        text = llm.generate([example.query], seed=trace.seed).generations[0][0].text
        assert found.trace.text == text


def test_another_evaluation_in_the_same_folder_is_refused(
    switch: Switch, whole: EvaluationJob
) -> None:
    with pytest.raises(ConfigError, match=r"settings\.seed: 0 there, 5 now"):
        evaluate_switch(job(switch, whole.out, seed=5))


def test_only_the_test_split_is_asked(switch: Switch, whole: EvaluationJob, tmp_path: Path) -> None:
    about = json.loads((whole.out / "evaluation.json").read_text(encoding="utf-8"))["about"]
    assert about["split"] == "test"
    task = load_task("tiny/compose")
    ids = {one.id for one in task.split("test")}
    assert {one.id for one in whole.examples} <= ids
    empty = Task(name="e", score=task.score, splits={"train": task.split("train")[:3]})
    with pytest.raises(InputError, match="'test'"):
        evaluate_switch(job(switch, tmp_path, empty))


def test_rows_that_cannot_be_judged_are_counted_not_hidden(switch: Switch, tmp_path: Path) -> None:
    def judge(answer: Answer) -> float:
        if "kilos" in answer.query:
            raise ValueError("no opinion")
        return float(answer.references[0] in answer.response)

    task = load_task("tiny/compose").with_score(FunctionScore(judge, name="picky"))
    done = job(switch, tmp_path, task, questions=12, leave_one_out=False, resample=False)
    analysis = evaluate_switch(done)["analysis"]
    failed = sum("kilos" in one.query for one in done.examples)
    assert failed > 0
    for one in analysis["conditions"].values():
        assert one["failed"] == failed
        assert one["score"]["n"] == 12 - failed
    assert (tmp_path / "report.html").is_file()


def test_what_adds_up_in_the_analysis(whole: EvaluationJob) -> None:
    found = json.loads((whole.out / "evaluation.json").read_text(encoding="utf-8"))["analysis"]
    scores = {name: one["score"]["mean"] for name, one in found["conditions"].items()}
    assert scores["best single (oracle)"] >= max(scores[f"{n} alone"] for n in found["names"])
    for name, one in found["differences"].items():
        assert one["mean"] == pytest.approx(scores[TRAINED] - scores[name])
    sampled = found["solved_by_none"]["sampled"]
    assert sampled["failed"] <= 6
    assert all(sum(row) == pytest.approx(1) for row in found["positions"])


def test_the_graph_shows_its_steps_without_loading_anything() -> None:
    def never() -> Any:
        raise AssertionError

    picture = build_evaluation_graph(never).get_graph().draw_mermaid()
    assert "respond --> next_batch" in picture
    assert "analyse --> report" in picture
