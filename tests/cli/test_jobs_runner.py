from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from langgraph_switch import SwitchConfig, SwitchLLM
from langgraph_switch.engines.scripted import ScriptedEngine
from langgraph_switch.errors import EngineError, GenerationError
from langgraph_switch.jobs import Job, LineFailure, answer_jobs


def _switch(texts: Callable[[str], str], *, live_traces: int = 4) -> SwitchLLM:
    config = SwitchConfig.from_dict(
        {
            "candidates": [
                {"name": name, "model": "none", "prompt": {"kind": "plain"}} for name in "ab"
            ],
            "seed": 1,
            "max_tokens": 30,
            "segment": {"max_tokens": 10},
            "limits": {"live_traces": live_traces},
            "failover": {"enabled": False},
        }
    )
    return SwitchLLM(config=config, engines={name: ScriptedEngine(texts) for name in "ab"})


def _jobs(count: int) -> list[Job]:
    return [Job(line=n, digest="", query={"query": f"<{n}>"}) for n in range(1, count + 1)]


def _answers(llm: SwitchLLM, jobs: list[Job], **options: Any) -> dict[int, Any]:
    return {job.line: answer for job, answer in answer_jobs(llm, jobs, **options)}


def _unless(*poison: str) -> Callable[[str], str]:
    def write(prefix: str) -> str:
        if any(word in prefix for word in poison):
            raise EngineError("it burns")
        return "and so on"

    return write


def test_a_question_that_breaks_its_batch_loses_no_other() -> None:
    good = _answers(_switch(_unless()), _jobs(40))
    answers = _answers(_switch(_unless("<7>", "<31>")), _jobs(40))
    failed = {line for line, answer in answers.items() if isinstance(answer, LineFailure)}
    assert failed == {7, 31}
    assert all(answers[n]["text"] == good[n]["text"] for n in answers if n not in failed)
    assert "it burns" in str(answers[7].error)


def test_a_dead_engine_ends_the_run() -> None:
    answers: list[Any] = []
    with pytest.raises(GenerationError, match="in a row"):
        answers += answer_jobs(_switch(_unless("<")), _jobs(40))


def test_a_question_that_cannot_be_asked_is_told_apart() -> None:
    jobs = _jobs(2)
    jobs[0] = Job(line=1, digest="", query={"query": "x", "max_tokens": 2**21})
    answers = _answers(_switch(_unless()), jobs)
    assert isinstance(answers[1], LineFailure)
    assert answers[2]["finish_reason"]


def test_tokens_are_counted_and_rows_released() -> None:
    counts: list[int] = []
    llm = _switch(_unless(), live_traces=2)
    answers = _answers(llm, _jobs(5), on_tokens=counts.append)
    assert sum(counts) == sum(a["usage"]["output_tokens"] for a in answers.values())
    assert llm.engines is not None
    engine = llm.engines["a"]
    assert isinstance(engine, ScriptedEngine)
    assert engine.released
