from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from failing_engines import DOWN, NAN, FlakyEngine, always, first_times, for_text
from langgraph.checkpoint.memory import InMemorySaver
from tiny_models import Recital, make_engine, random_model, switch_config

from langgraph_switch import (
    ChatSwitch,
    ScriptedEngine,
    Segment,
    Switch,
    SwitchLLM,
    Trace,
    build_graph,
    provenance,
)
from langgraph_switch.config import SwitchConfig
from langgraph_switch.engines.base import Engine
from langgraph_switch.errors import ConfigError, EngineError, GenerationError, InputError
from langgraph_switch.failover import Health
from langgraph_switch.floor import is_stuck, recent_failures
from langgraph_switch.graph import recursion_limit
from langgraph_switch.loop import finish_traces
from langgraph_switch.queries import trace_from_query
from langgraph_switch.switchers.base import Turn

TEXT = "naïve 🙂 日本語 and so on, until all of it has been said at last"
SOON: dict[str, Any] = {"initial_wait_s": 0, "max_wait_s": 1}


def config(names: str = "ab", **fields: Any) -> SwitchConfig:
    defaults: dict[str, Any] = {
        "switcher": {"kind": "fixed", "order": list(names)},
        "max_tokens": 200,
        "anchor": {"first": False},
        "failover": SOON,
    }
    return switch_config(names, **(defaults | fields))


def stream(switch: Switch, query: Any = "q") -> tuple[Trace, list[Any], str]:
    """Answer a query; return the trace, the events and the text as it was streamed."""
    limit: Any = {"recursion_limit": recursion_limit(switch.config, 1)}
    events = list(build_graph(switch).stream({"queries": [query]}, limit, stream_mode="custom"))
    streamed = "".join(event["text"] for event in events if event["type"] == "text")
    return Trace.from_json(events[-1]["data"]), events, streamed


def finish(switch: Switch, queries: Sequence[Any]) -> list[Trace]:
    limit: Any = {"recursion_limit": recursion_limit(switch.config, len(queries))}
    output = build_graph(switch).invoke({"queries": list(queries)}, limit)
    return [Trace.from_json(trace) for trace in output["traces"]]


def parts(trace: Trace) -> list[tuple[str, str, str]]:
    return [(one.speaker, one.decided_by, one.finish_reason) for one in trace.segments]


def timeless(trace: Trace) -> Trace:
    nothing: dict[str, Any] = {"decide_s": 0.0, "generate_s": 0.0}
    nothing |= {"prefill_tokens": 0, "cached_tokens": 0}
    return replace(trace, segments=tuple(replace(one, **nothing) for one in trace.segments))


@pytest.mark.parametrize("after_tokens", [0, 3, 8])
@pytest.mark.parametrize("stop", [[], ["never", "y and z"]])
def test_the_stream_goes_on_and_says_who_took_over(after_tokens: int, stop: list[str]) -> None:
    broken = FlakyEngine(Recital(TEXT), breaks=always(DOWN), after_tokens=after_tokens)
    given = config(segment={"max_tokens": 9}, failover={"max_attempts": 1})
    switch = Switch(given, engines={"a": broken, "b": Recital(TEXT)})
    trace, events, streamed = stream(switch, {"query": "q", "stop": stop})
    assert trace.text == streamed == TEXT
    failed = [one for one in trace.segments if one.finish_reason == "failed"]
    assert failed
    assert {one.speaker for one in failed} == {"a"}
    heirs = [
        trace.segments[i + 1]
        for i, one in enumerate(trace.segments)
        if one.finish_reason == "failed"
    ]
    assert {(one.speaker, one.decided_by) for one in heirs} == {("b", "failover")}
    if after_tokens:  # What had been shown is its speaker's.
        assert TEXT.startswith(trace.segments[0].text + trace.segments[1].text)
        assert any(one.text for one in failed)
    decided = [event["decided_by"] for event in events if event["type"] == "decision"]
    assert decided == [one.decided_by for one in trace.segments]


@pytest.mark.parametrize("after_tokens", [1, 2, 5])
def test_a_retry_goes_on_from_what_was_shown(after_tokens: int) -> None:
    engine = FlakyEngine(Recital(TEXT), breaks=first_times(DOWN, 2), after_tokens=after_tokens)
    switch = Switch(config(segment={"max_tokens": 40}), engines={"a": engine, "b": Recital(TEXT)})
    trace, _, streamed = stream(switch)
    assert trace.text == streamed == TEXT
    assert "failover" not in {one.decided_by for one in trace.segments}
    assert len(engine.calls[-1][0].prefix) >= len(engine.calls[0][0].prefix)


@pytest.mark.parametrize("after_tokens", [0, 3])
def test_a_retry_changes_no_greedy_answer(after_tokens: int) -> None:
    """The slow path is the answer without any failure."""
    made = [make_engine(random_model(seed=i)) for i in range(2)]
    flaky = FlakyEngine(made[0], breaks=first_times(DOWN, 2), after_tokens=after_tokens)
    expected = Switch(config(max_tokens=40), engines={"a": made[0], "b": made[1]})
    found = Switch(config(max_tokens=40), engines={"a": flaky, "b": made[1]})
    assert stream(found)[0].text == stream(expected)[0].text


@pytest.mark.parametrize("max_attempts", [1, 2, 4])
def test_a_retryable_error_is_met_by_exactly_so_many_calls(max_attempts: int) -> None:
    broken = FlakyEngine(ScriptedEngine(), breaks=always(DOWN))
    rules = SOON | {"max_attempts": max_attempts}
    switch = Switch(config(failover=rules), engines={"a": broken, "b": Recital(TEXT)})
    trace, _, _ = stream(switch)
    assert trace.text == TEXT
    assert len(broken.calls) == max_attempts  # And on cooldown from then on.
    assert sum(one.finish_reason == "failed" for one in trace.segments) == 1


def test_an_error_that_does_not_pass_is_not_tried_again() -> None:
    broken = FlakyEngine(Recital(TEXT), breaks=first_times(NAN, 1))
    switch = Switch(config(), engines={"a": broken, "b": Recital(TEXT)})
    trace, _, _ = stream(switch)
    assert parts(trace)[:4] == [
        ("a", "fixed", "failed"),
        ("b", "failover", "length"),
        ("a", "fixed", "length"),  # No cooldown either.
        ("b", "fixed", "length"),
    ]


@pytest.mark.parametrize("error", [ConfigError("no"), InputError("no")])
def test_the_users_errors_are_not_handed_over(error: Exception) -> None:
    engines = {"a": ScriptedEngine([error]), "b": ScriptedEngine(lambda _: "b" * 9)}
    with pytest.raises((ConfigError, GenerationError), match="no"):
        finish(Switch(config(), engines=engines), ["q"])


def test_waits_grow_and_a_servers_own_wish_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("langgraph_switch.failover.time.sleep", waits.append)
    busy = EngineError("busy", retryable=True, retry_after_s=0.7)
    engine = FlakyEngine(Recital(TEXT), breaks=first_times(busy, 2))
    rules = {"initial_wait_s": 0.1, "max_wait_s": 1}
    switch = Switch(config(failover=rules), engines={"a": engine, "b": Recital(TEXT)})
    assert stream(switch)[0].text == TEXT
    assert waits == [0.7, 0.7]
    waits.clear()
    engine._breaks = always(EngineError("busy", retryable=True, retry_after_s=60))
    trace, _, _ = stream(switch)
    assert trace.text == TEXT
    assert not waits, "somebody else goes on at once"
    assert switch.health.is_cooling("a")


def test_no_try_begins_after_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("langgraph_switch.failover.time.sleep", waits.append)
    monkeypatch.setattr("tenacity.wait.random.uniform", lambda _low, high: high)
    broken = FlakyEngine(ScriptedEngine(), breaks=always(DOWN))
    rules = {"initial_wait_s": 1, "max_wait_s": 60, "max_attempts": 100}
    given = config(failover=rules)
    spec = given.candidate("a").model_copy(update={"timeout_s": 6.0})
    given = given.with_changes(candidates=(spec, given.candidate("b")))
    switch = Switch(given, engines={"a": broken, "b": Recital(TEXT)})
    assert stream(switch)[0].text == TEXT
    assert waits == [1, 2, 4], "8 would be too late; time itself stands still here"
    timeouts = [one.timeout_s for call in broken.calls for one in call]
    assert all(timeout is not None and 5 < timeout <= 6 for timeout in timeouts)


@pytest.mark.parametrize("tells_rows_apart", [True, False])
@pytest.mark.parametrize("error", [DOWN, NAN])
@pytest.mark.parametrize("max_attempts", [1, 3])
def test_only_the_failing_rows_of_a_batch_hand_over(
    tells_rows_apart: bool, error: EngineError, max_attempts: int
) -> None:
    inner = Recital(TEXT)
    broken = FlakyEngine(
        inner,
        breaks=for_text(inner, error, "<3>", "<6>"),
        after_tokens=2,
        tells_rows_apart=tells_rows_apart,
    )
    rules = SOON | {"max_attempts": max_attempts}
    switch = Switch(config(failover=rules), engines={"a": broken, "b": Recital(TEXT)})
    traces = finish(switch, [f"<{i}>" for i in range(8)])
    assert [trace.text for trace in traces] == [TEXT] * 8
    healthy = Switch(config(), engines={"a": Recital(TEXT), "b": Recital(TEXT)})
    expected = finish(healthy, [f"<{i}>" for i in range(8)])
    for i, (trace, untouched) in enumerate(zip(traces, expected, strict=True)):
        failed = [one for one in trace.segments if one.finish_reason == "failed"]
        assert bool(failed) == (i in {3, 6})
        assert failed or timeless(trace) == timeless(untouched)
    if tells_rows_apart:
        assert len(broken.calls[0]) == 8
        assert all(
            len(call) == 2 for call in broken.calls[1 : max_attempts if error is DOWN else 1]
        )


def test_a_failing_candidate_is_left_alone_by_all_runs_until_its_cooldown_is_over() -> None:
    now = 0.0
    broken = FlakyEngine(Recital(TEXT), breaks=first_times(DOWN, 3))
    health = Health(clock=lambda: now)
    engines: dict[str, Engine] = {"a": broken, "b": Recital(TEXT)}
    switch = Switch(config(), engines=engines, health=health)
    stream(switch)
    assert len(broken.calls) == 3
    other_rules = switch.with_config(switch.config.with_changes(max_tokens=100))
    for one in (switch, other_rules):
        trace, _, _ = stream(one)
        assert {(s.speaker, s.decided_by) for s in trace.segments} == {
            ("b", "fixed"), ("b", "failover")
        }  # fmt: skip
    assert len(broken.calls) == 3
    now = 31.0
    trace, _, _ = stream(switch)
    assert "a" in {one.speaker for one in trace.segments}
    assert trace.text == TEXT
    assert "failover" not in {one.decided_by for one in trace.segments}


def test_whoever_is_tried_in_spite_of_a_cooldown_is_tried_once() -> None:
    both = [FlakyEngine(ScriptedEngine(), breaks=always(DOWN)) for _ in range(2)]
    switch = Switch(config(), engines={"a": both[0], "b": both[1]})
    for num_calls in (3, 4):
        with pytest.raises(GenerationError):
            finish(switch, ["q"])
        assert [len(one.calls) for one in both] == [num_calls] * 2


def test_with_everybody_down_the_error_carries_what_there_is() -> None:
    engines: dict[str, Engine] = {
        "a": FlakyEngine(Recital(TEXT), breaks=always(DOWN), after_tokens=2),
        "b": FlakyEngine(Recital(TEXT), breaks=always(NAN), after_tokens=4),
    }
    llm = SwitchLLM(config=config(), engines=engines)
    started = time.monotonic()
    shown: list[str] = []
    with pytest.raises(GenerationError, match=r"(?s)Every.*b: The model computed NaN") as caught:
        shown.extend(llm.stream("q"))
    assert time.monotonic() - started < 5
    [trace] = caught.value.traces
    assert trace.text == "".join(shown)
    assert TEXT.startswith(trace.text)
    assert len(trace.text) > 3
    assert parts(trace) == [("a", "fixed", "failed"), ("b", "failover", "failed")]
    assert caught.value.retryable
    assert caught.value.hint == "start it"
    assert caught.value.__cause__ is not None


def test_a_stuck_trace_waits_until_the_others_have_ended() -> None:
    inner = Recital(TEXT)
    engines: dict[str, Engine] = {
        name: FlakyEngine(inner, breaks=for_text(inner, NAN, "<1>")) for name in "ab"
    }
    queries = [f"<{i}>" for i in range(4)]
    small = config(limits={"live_traces": 2})
    with pytest.raises(GenerationError) as caught:
        finish(Switch(small, engines=engines), queries)
    assert [trace.text for trace in caught.value.traces] == [TEXT, "", TEXT, TEXT]
    assert [trace.finish_reason for trace in caught.value.traces] == ["eos", None, "eos", "eos"]
    switch = Switch(small, engines=engines)
    turns = [Turn(trace_from_query(q, small), f"row {i}") for i, q in enumerate(queries)]
    with pytest.raises(GenerationError) as caught:
        finish_traces(switch, turns)
    assert [trace.text for trace in caught.value.traces] == [TEXT, "", TEXT, TEXT]


def test_the_loop_outside_of_a_graph_hands_over_too() -> None:
    """Nobody listens there, so that nothing of what a failing call wrote needs to be kept."""
    broken = FlakyEngine(Recital(TEXT), breaks=always(DOWN), after_tokens=2)
    switch = Switch(config(), engines={"a": broken, "b": Recital(TEXT)})
    [trace] = finish_traces(switch, [Turn(trace_from_query("q", switch.config), "row")])
    assert trace.text == TEXT
    assert parts(trace)[:2] == [("a", "fixed", "failed"), ("b", "failover", "length")]
    assert trace.segments[0].text == ""


def test_where_nobody_listens_a_retry_draws_the_same() -> None:
    made = [make_engine(random_model(seed=i)) for i in range(2)]
    flaky = FlakyEngine(made[0], breaks=first_times(DOWN, 2), after_tokens=3)
    sampled = config(max_tokens=40, sampling={"temperature": 1.0})
    expected = SwitchLLM(config=sampled, engines={"a": made[0], "b": made[1]})
    found = SwitchLLM(config=sampled, engines={"a": flaky, "b": made[1]})
    assert found.batch(["hello", "you"]) == expected.batch(["hello", "you"])


def test_measurements_try_again_and_never_hand_over() -> None:
    flaky = FlakyEngine(Recital(TEXT), breaks=first_times(DOWN, 2))
    switch = Switch(config(), engines={"a": flaky, "b": Recital(TEXT)}).without_hand_over()
    [trace] = finish_traces(switch, [Turn(trace_from_query("q", switch.config), "row")])
    assert trace.text == TEXT
    flaky._breaks = always(DOWN)
    with pytest.raises(GenerationError, match="server is down"):
        finish_traces(switch, [Turn(trace_from_query("q", switch.config), "row")])


def lm_config(**fields: Any) -> SwitchConfig:
    switcher = {"kind": "lm", "model": "s", "sampling": {"temperature": 0}}
    return config("abc", switcher=switcher, anchor={"first": False, "last": False}, **fields)


def test_a_stand_in_is_whom_the_switcher_thought_best_of_the_others() -> None:
    engines: dict[str, Engine] = {
        "a": Recital(TEXT),
        "b": FlakyEngine(Recital(TEXT), breaks=always(DOWN), after_tokens=1),
        "c": Recital(TEXT),
        "switcher": ScriptedEngine(labels=lambda _: (0.3, 0.6, 0.1)),
    }
    trace, _, _ = stream(Switch(lm_config(), engines=engines))
    assert parts(trace)[:2] == [("b", "switcher", "failed"), ("a", "failover", "length")]
    assert {one.speaker for one in trace.segments[1:] if one.text} == {"a"}
    assert trace.segments[1].probabilities == pytest.approx((0.3, 0.6, 0.1))


@pytest.mark.parametrize(("rule", "speaker"), [("anchor", "c"), ("last_speaker", "a")])
def test_without_its_switcher_an_answer_goes_on_by_a_rule(rule: str, speaker: str) -> None:
    deciding = FlakyEngine(ScriptedEngine(labels=lambda _: (1.0, 0.0, 0.0)), breaks=always(DOWN))
    engines: dict[str, Engine] = {name: Recital(TEXT) for name in "abc"}
    switch = Switch(
        lm_config(failover=SOON | {"without_switcher": rule, "cooldown_s": 0}),
        engines=engines | {"switcher": deciding},
    )
    turn = Turn(trace_from_query("q", switch.config), "row")
    [decision] = switch.decide([turn])
    assert (decision.speaker, decision.decided_by) == ("a", "switcher")
    grown = switch.append(turn.trace, switch.write("a", [turn], [decision])[0])
    deciding.label_error = DOWN
    before = deciding.num_label_calls
    [decision] = switch.decide([replace(turn, trace=grown)])
    assert (decision.speaker, decision.decided_by) == (speaker, "failover")
    assert deciding.num_label_calls - before == 3
    assert stream(switch)[0].text == TEXT


def test_a_failing_switcher_is_asked_again_after_its_cooldown_only() -> None:
    now = 0.0
    deciding = FlakyEngine(ScriptedEngine(labels=lambda _: (1.0, 0.0, 0.0)), breaks=always(DOWN))
    deciding.label_error = DOWN
    engines: dict[str, Engine] = {name: Recital(TEXT) for name in "abc"}
    switch = Switch(
        lm_config(), engines=engines | {"switcher": deciding}, health=Health(clock=lambda: now)
    )
    assert stream(switch)[0].text == TEXT
    assert deciding.num_label_calls == 3
    deciding.label_error = None
    now = 31.0
    trace, _, _ = stream(switch)
    assert "switcher" in {one.decided_by for one in trace.segments}


def test_a_switcher_without_a_rule_ends_the_answer() -> None:
    deciding = FlakyEngine(ScriptedEngine(), breaks=always(DOWN))
    deciding.label_error = DOWN
    engines: dict[str, Engine] = {name: Recital(TEXT) for name in "abc"}
    strict = lm_config(failover=SOON | {"without_switcher": "error"})
    with pytest.raises(GenerationError, match="server is down"):
        finish(Switch(strict, engines=engines | {"switcher": deciding}), ["q"])


def test_failover_off_means_the_first_error_ends_the_answer() -> None:
    broken = FlakyEngine(Recital(TEXT), breaks=always(DOWN))
    off = config(failover={"enabled": False})
    with pytest.raises(GenerationError, match="server is down"):
        finish(Switch(off, engines={"a": broken, "b": Recital(TEXT)}), ["q"])
    assert len(broken.calls) == 1


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_without_a_failure_failover_changes_nothing(temperature: float) -> None:
    engines = {name: make_engine(random_model(seed=i)) for i, name in enumerate("ab")}
    fields: dict[str, Any] = {"sampling": {"temperature": temperature}, "max_tokens": 40}
    on = Switch(config(**fields), engines=engines)
    off = Switch(config(failover={"enabled": False}, **fields), engines=engines)
    queries = ["hello", "you there"]
    assert list(map(timeless, finish(on, queries))) == list(map(timeless, finish(off, queries)))


@pytest.mark.parametrize("interrupted_at", [1, 2, 3, 4])
def test_a_resumed_run_fails_over_as_an_uninterrupted_one(interrupted_at: int) -> None:
    def switch() -> Switch:
        def breaks(request: Any) -> EngineError | None:
            return None if (len(request.prefix) - request.response_start) % 2 else DOWN

        inner = make_engine(random_model(seed=1))
        broken = FlakyEngine(inner, breaks=breaks, after_tokens=2)
        rules = {"cooldown_s": 0, "max_attempts": 1}
        given = config(max_tokens=40, sampling={"temperature": 1.0}, failover=rules)
        return Switch(given, engines={"a": broken, "b": make_engine(random_model(seed=2))})

    [whole] = finish(switch(), ["hello"])
    assert "failed" in {one.finish_reason for one in whole.segments}
    saver = InMemorySaver()
    thread: Any = {"configurable": {"thread_id": "t"}, "recursion_limit": 500}
    given: Any = {"queries": ["hello"]}
    for _ in range(interrupted_at):
        build_graph(switch(), checkpointer=saver).invoke(
            given, thread, interrupt_before=["decide"], durability="sync"
        )
        given = None
    resumed = build_graph(switch(), checkpointer=saver).invoke(None, thread)["traces"][0]
    assert timeless(Trace.from_json(resumed)) == timeless(whole)


def test_a_stuck_run_is_resumed_when_servers_are_back() -> None:
    engines = {name: FlakyEngine(Recital(TEXT), breaks=always(DOWN)) for name in "ab"}
    switch = Switch(config(), engines=engines)
    app = build_graph(switch, checkpointer=InMemorySaver())
    thread: Any = {"configurable": {"thread_id": "t"}, "recursion_limit": 500}
    with pytest.raises(GenerationError):
        app.invoke({"queries": ["q"]}, thread)
    with pytest.raises(GenerationError):
        app.invoke(None, thread)
    for engine in engines.values():
        engine._breaks = lambda _: None
    trace = Trace.from_json(app.invoke(None, thread)["traces"][0])
    assert trace.text == TEXT
    assert trace.finish_reason == "eos"


def test_who_is_there_and_silent_ends_an_answer_that_the_anchor_cannot_end() -> None:
    engines: dict[str, Engine] = {
        "a": Recital(TEXT),
        "b": FlakyEngine(Recital(TEXT), breaks=always(DOWN)),
    }
    trace, _, _ = stream(Switch(config(), engines=engines))
    assert trace.text == TEXT
    assert trace.finish_reason == "silence"


def test_a_character_that_was_cut_in_the_middle_is_written_once() -> None:
    for after_tokens in range(1, 12):
        broken = FlakyEngine(Recital("日本語🙂é"), breaks=always(DOWN), after_tokens=after_tokens)
        given = config(anchor={"candidate": "a"}, segment={"max_tokens": 12})
        switch = Switch(given, engines={"a": broken, "b": Recital("日本語🙂é")})
        trace, _, streamed = stream(switch)
        assert trace.text == streamed == "日本語🙂é"


def test_what_was_whole_when_the_call_broke_is_kept_as_whole() -> None:
    broken = FlakyEngine(Recital(TEXT), breaks=first_times(DOWN, 1), after_tokens=7)
    switch = Switch(config(anchor={"candidate": "a"}), engines={"a": broken, "b": Recital(TEXT)})
    trace, _, streamed = stream(switch)
    assert trace.text == streamed == TEXT
    assert parts(trace)[0] == ("a", "anchor", "length")
    assert len(broken.calls[1][0].prefix) > len(broken.calls[0][0].prefix), "not asked again"


async def test_a_chat_goes_on_streamed_and_awaited() -> None:
    def chat() -> ChatSwitch:
        broken = FlakyEngine(Recital(TEXT), breaks=always(DOWN), after_tokens=2)
        return ChatSwitch(config=config(), engines={"a": broken, "b": Recital(TEXT)})

    whole = chat().invoke("q")
    assert whole.content == TEXT
    shown = None
    async for chunk in chat().astream("q"):
        shown = chunk if shown is None else shown + chunk
    assert shown is not None
    assert shown.content == TEXT
    for message in (whole, shown):
        assert "failover" in {one["decided_by"] for one in provenance(message)}
    assert "".join(one["text"] for one in provenance(shown)) == TEXT


def test_a_hand_over_is_logged_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    broken = FlakyEngine(ScriptedEngine(), breaks=always(DOWN))
    switch = Switch(config(), engines={"a": broken, "b": Recital(TEXT)})
    with caplog.at_level(logging.INFO, "langgraph_switch.failover"):
        stream(switch)
    assert [record.levelname for record in caplog.records] == ["INFO", "INFO", "WARNING"]
    assert "a failed, somebody else goes on: The server is down." in caplog.text


def test_rules_over_traces() -> None:
    def written(speaker: str, text: str, reason: str, by: str = "fixed") -> Segment:
        return Segment.from_json(
            {
                "speaker": speaker,
                "text": text,
                "token_ids": list(text.encode()),
                "tokenizer": "bytes",
                "decided_by": by,
                "finish_reason": reason,
            }
        )

    given = config("abc")
    trace = trace_from_query("q", given).append(written("a", "x", "failed"))
    trace = trace.append(written("b", "y", "length"))
    assert not recent_failures(trace)
    trace = trace.append(written("a", "", "failed")).append(written("b", " so", "length", "cue"))
    trace = trace.append(written("b", "z", "failed"))
    assert recent_failures(trace) == {"a": 1, "b": 1}
    assert not is_stuck(trace, given)
    trace = trace.append(written("c", "", "failed"))
    assert is_stuck(trace, given)
    assert not is_stuck(trace.append(written("a", "", "failed")), given)
