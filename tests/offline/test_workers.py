from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from rollout_program import make_job
from workers_double import BackToFront

from langgraph_switch import Switch
from langgraph_switch.errors import (
    ConfigError,
    ContextLengthError,
    EngineOutOfMemoryError,
    GenerationError,
    MissingExtraError,
    ModelLoadError,
    SwitchError,
)
from langgraph_switch.families import family_config
from langgraph_switch.offline import (
    EvaluationJob,
    EvaluationSettings,
    RolloutJob,
    RolloutSettings,
    collect_rollouts,
    evaluate_switch,
    prepare_rollouts,
)
from langgraph_switch.tasks import load_task

ROLLOUTS = RolloutSettings(completions=2, chunk_queries=2, completer="switcher", seed=3)
ANSWERS = EvaluationSettings(questions=3, batch_questions=2, leave_one_out=False, resample=False)

HERE_TOLD = 26
"""Completions that are told of: four of 30 had ended with their branch."""


def rollouts(out: Path) -> RolloutJob:
    config = family_config("tiny").with_changes(max_tokens=24)
    task = load_task("tiny/compose")
    return prepare_rollouts(config, task, out=out, queries=5, settings=ROLLOUTS)


def evaluation(out: Path) -> EvaluationJob:
    config = family_config("tiny").with_changes(max_tokens=24)
    return EvaluationJob(switch=config, task=load_task("tiny/compose"), out=out, settings=ANSWERS)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    job = rollouts(tmp_path_factory.mktemp("here"))
    told: list[dict[str, Any]] = []
    collect_rollouts(job, on_event=told.append)
    assert completions(told) == HERE_TOLD
    return list(job.shards.rows())


def completions(told: list[dict[str, Any]]) -> int:
    return sum(event.get("completions", 0) for event in told)


def answers(job: EvaluationJob) -> dict[str, list[tuple[str, float | None]]]:
    return {
        name: [(one.trace.text, one.score) for one in job.responses(name)]
        for name in job.conditions
    }


def test_workers_make_the_rows_that_this_process_makes(
    tmp_path: Path, here: list[dict[str, Any]]
) -> None:
    workers, told = BackToFront(), []
    job = rollouts(tmp_path)
    found = collect_rollouts(job, workers=workers, on_event=told.append)
    assert workers.done == [2, 1, 0]
    assert list(job.shards.rows()) == here
    assert found.summary["rows"] == 5
    assert completions(told) == HERE_TOLD
    assert "switch" not in vars(job), "the driver loads no models"


def test_what_is_stored_is_not_done_again_and_a_broken_off_run_goes_on_elsewhere(
    tmp_path: Path, here: list[dict[str, Any]]
) -> None:
    class Stop(Exception):  # noqa: N818 - an interruption, no error
        pass

    def stop(event: dict[str, Any]) -> None:
        if event["type"] == "stored":
            raise Stop

    first, second = BackToFront(), BackToFront()
    with pytest.raises(Stop):
        collect_rollouts(rollouts(tmp_path), on_event=stop)
    with pytest.raises(Stop):
        collect_rollouts(rollouts(tmp_path), workers=first, on_event=stop)
    assert first.is_closed
    job = rollouts(tmp_path)
    collect_rollouts(job, workers=second)
    assert second.done == [1], "the first chunk was stored here, the last one by the first workers"
    assert list(job.shards.rows()) == here
    assert not (tmp_path / "state.sqlite").exists()
    collect_rollouts(rollouts(tmp_path), workers=second)
    assert second.done == [1]


def test_workers_give_the_answers_that_this_process_gives(tmp_path: Path) -> None:
    jobs = [evaluation(tmp_path / name) for name in ("here", "elsewhere")]
    workers, told = BackToFront(), []
    evaluate_switch(jobs[0])
    found = evaluate_switch(jobs[1], workers=workers, on_event=told.append)
    assert answers(jobs[1]) == answers(jobs[0])
    assert len(workers.done) == 2 * len(jobs[1].conditions)
    assert sum(event["responses"] for event in told) == 3 * len(jobs[1].conditions)
    scores = [
        {
            name: one["score"]
            for name, one in json.loads((job.out / "evaluation.json").read_text())["analysis"][
                "conditions"
            ].items()
        }
        for job in jobs
    ]
    assert scores[0] == scores[1]
    assert found["analysis"]["conditions"].keys() >= jobs[1].conditions.keys()
    evaluate_switch(jobs[1], workers=BackToFront())
    assert len(workers.done) == 2 * len(jobs[1].conditions), "nothing is answered again"


def test_models_that_only_this_process_has_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="load their own models") as info:
        collect_rollouts(make_job(tmp_path / "rollouts"), workers=BackToFront())
    assert "switch=" in info.value.hint
    loaded = Switch(family_config("tiny"))
    job = EvaluationJob(
        switch=loaded, task=load_task("tiny/compose"), out=tmp_path, settings=ANSWERS
    )
    with pytest.raises(ConfigError, match="load their own models") as info:
        evaluate_switch(job, workers=BackToFront())
    assert "SwitchConfig" in info.value.hint


@pytest.mark.parametrize(
    "error",
    [
        SwitchError("what", hint="do", retryable=True),
        ContextLengthError("a", num_tokens=9, max_tokens=8, hint="less"),
        MissingExtraError("This", extra="ray"),
        ModelLoadError("repo", "gone", hint="look"),
        EngineOutOfMemoryError("full"),
        GenerationError("broke off", traces=()),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_reach_another_process_whole(error: SwitchError) -> None:
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)
