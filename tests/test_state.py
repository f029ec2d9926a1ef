from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langgraph.checkpoint.memory import InMemorySaver
from tiny_models import switch_config

from langgraph_switch import ScriptedEngine, Switch, Trace, build_graph
from langgraph_switch.errors import EngineError, GenerationError
from langgraph_switch.state import fold_traces

_UPDATES = st.lists(
    st.one_of(
        st.builds(
            lambda i, s: {"index": i, "segments": [{"text": s}]}, st.integers(0, 2), st.text()
        ),
        st.builds(
            lambda i, s: {"index": i, "trace": {"segments": [s]}}, st.integers(0, 2), st.text()
        ),
        st.builds(lambda s: {"traces": [{"segments": [s]}] * 3}, st.text()),
    ),
    max_size=6,
)
_START: list[dict[str, Any]] = [{"segments": []}, {"segments": []}, {"segments": []}]


@given(_UPDATES, _UPDATES)
def test_updates_fold_alike_in_one_batch_or_two(first: Any, second: Any) -> None:
    one_by_one = fold_traces(fold_traces(_START, [first]), [second])
    assert one_by_one == fold_traces(_START, [first, second])
    assert _START == [{"segments": []}] * 3


def test_a_thread_that_is_used_again_begins_anew() -> None:
    engines = {name: ScriptedEngine(lambda prefix: prefix[:2] * 9) for name in "ab"}
    switch = Switch(switch_config("ab", max_tokens=10), engines=engines)
    app = build_graph(switch, checkpointer=InMemorySaver())
    thread: Any = {"configurable": {"thread_id": "t"}}
    app.invoke({"queries": ["first", "second", "third"]}, thread)
    traces = app.invoke({"queries": ["other"]}, thread)["traces"]
    assert [Trace.from_json(trace).query for trace in traces] == ["other"]
    assert Trace.from_json(traces[0]).text == "otototo" + "oto"


def test_a_broken_off_run_of_a_thread_leaves_nothing_to_the_next() -> None:
    engines = {"a": ScriptedEngine(["x" * 7]), "b": ScriptedEngine(lambda _: "y" * 9)}
    config = switch_config("ab", switcher={"kind": "fixed", "order": ["a"]}, max_tokens=30)
    app = build_graph(Switch(config, engines=engines), checkpointer=InMemorySaver())
    thread: Any = {"configurable": {"thread_id": "t"}}
    for query in ("first", "second"):
        with pytest.raises(GenerationError, match="The script of"):
            app.invoke({"queries": [query, query + "!"]}, thread)
    engines["a"]._texts = lambda _: "z" * 9
    traces = app.invoke({"queries": ["third"]}, thread)["traces"]
    assert [Trace.from_json(trace).query for trace in traces] == ["third"]
    assert Trace.from_json(traces[0]).text == "y" * 7 + "z" * 21 + "y" * 2


def test_a_broken_off_response_says_what_its_cause_says_and_keeps_the_text() -> None:
    busy = EngineError("The server is busy.", hint="wait a minute", retryable=True)
    engines = {"a": ScriptedEngine([busy]), "b": ScriptedEngine(["so far"])}
    config = switch_config(
        "ab",
        switcher={"kind": "fixed", "order": ["a"]},
        segment={"max_tokens": 6},
        failover={"enabled": False},
    )
    with pytest.raises(GenerationError, match=r"broke off\. The server is busy") as caught:
        build_graph(Switch(config, engines=engines)).invoke({"queries": ["q"]})
    assert (caught.value.hint, caught.value.retryable) == ("wait a minute", True)
    assert caught.value.__cause__ is busy
    assert [trace.text for trace in caught.value.traces] == ["so far"]
