"""Settings of one run: what they change, and that they change nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from langgraph_switch import SwitchLLM
from langgraph_switch.errors import ConfigError, InputError

QUESTION = "How many legs do 3 spiders and 2 cats have in total?"
LIMIT: Any = {"recursion_limit": 2000}


@pytest.fixture(scope="module")
def llm() -> SwitchLLM:
    return SwitchLLM.embedded()


def trace(llm: SwitchLLM, query: Any = QUESTION, **context: Any) -> dict[str, Any]:
    output = llm.graph.invoke({"queries": [query]}, LIMIT, context=context)  # type: ignore[arg-type]
    found: dict[str, Any] = output["traces"][0]
    return found


def text(found: dict[str, Any]) -> str:
    return "".join(segment["text"] for segment in found["segments"])


def test_without_settings_a_run_is_as_configured(llm: SwitchLLM) -> None:
    assert text(trace(llm)) == llm.invoke(QUESTION)
    assert text(trace(llm, segment_tokens=6, switcher="configured")) == llm.invoke(QUESTION)


def test_settings_do_what_another_configuration_does(llm: SwitchLLM) -> None:
    other = SwitchLLM.embedded(segment={"max_tokens": 9}, seed=5)
    assert text(trace(llm, segment_tokens=9, seed=5)) == other.invoke(QUESTION)
    random = SwitchLLM.embedded(switcher={"kind": "random"}, seed=5)
    assert text(trace(llm, switcher="random", seed=5)) == random.invoke(QUESTION)
    own = SwitchLLM.embedded(switcher={"kind": "lm", "candidate": "aligned"}, seed=5)
    assert text(trace(llm, switcher="aligned", seed=5)) == own.invoke(QUESTION)
    assert text(trace(llm)) == llm.invoke(QUESTION)


def test_what_a_query_says_comes_first(llm: SwitchLLM) -> None:
    found = trace(llm, {"query": QUESTION, "seed": 7}, seed=5, temperature=0.5)
    assert (found["seed"], found["temperature"]) == (7, 0.5)


def test_engines_are_shared(llm: SwitchLLM) -> None:
    trace(llm, segment_tokens=5)
    assert all(
        candidate.engine.num_rows == 0  # type: ignore[attr-defined]
        for candidate in llm.switch.candidates.values()
    )


@pytest.mark.parametrize(
    ("context", "problem"),
    [
        ({"segments": 4}, "no setting 'segments'"),
        ({"switcher": "gpt"}, "no switcher 'gpt'"),
        ({"segment_tokens": 0}, "segment"),
        ({"seed": -1}, "seed"),
    ],
)
def test_wrong_settings_are_refused(llm: SwitchLLM, context: dict[str, Any], problem: str) -> None:
    with pytest.raises((InputError, ConfigError), match=problem):
        trace(llm, **context)


def test_a_graph_is_drawn_without_its_models() -> None:
    llm = SwitchLLM.embedded()
    assert "generate_aligned" in llm.graph.get_graph().nodes
    assert "switch" not in llm.__dict__
