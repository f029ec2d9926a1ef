from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langgraph.graph import END, START, StateGraph
from tiny_models import (
    TEMPLATE,
    Recital,
    byte_tokenizer,
    make_engine,
    merging_tokenizer,
    random_model,
    switch_config,
)
from typing_extensions import TypedDict

from langgraph_switch import ScriptedEngine, Switch, SwitchLLM, Trace, build_graph
from langgraph_switch.config import SwitchConfig
from langgraph_switch.engines.byte_tokenizer import EOS_ID, ByteTokenizer
from langgraph_switch.engines.tokenizer import HFTokenizer
from langgraph_switch.errors import ConfigError, InputError
from langgraph_switch.graph import recursion_limit
from langgraph_switch.queries import trace_from_query
from langgraph_switch.switchers.base import Turn

MIXED = "naïve 🙂 日本語"


def run(
    config: SwitchConfig, engines: dict[str, ScriptedEngine], query: Any = "q"
) -> tuple[Trace, list[Any]]:
    """Answer one query; return the trace and every event."""
    switch = Switch(config, engines=engines)
    limit: Any = {"recursion_limit": recursion_limit(config, 1)}
    events = list(build_graph(switch).stream({"queries": [query]}, limit, stream_mode="custom"))
    return Trace.from_json(events[-1]["data"]), events


def speaking(*names: str) -> dict[str, Any]:
    return {"kind": "fixed", "order": list(names)}


def test_the_picture_shows_decide_generate_append() -> None:
    engines = {name: ScriptedEngine() for name in "abc"}
    picture = build_graph(Switch(switch_config(), engines=engines)).get_graph().draw_mermaid()
    for edge in ("prepare --> decide", "decide -.-> generate_b", "generate_b --> append"):
        assert edge in picture
    assert "append -.-> decide" in picture
    assert "append -.-> __end__" in picture


@pytest.mark.parametrize(
    ("given_input", "message"),
    [
        ({"queries": []}, "list with at least one query"),
        ({"queries": "hello"}, "list with at least one query"),
        ({"queries": [{"query": "x", "sed": 1}]}, "no key 'sed'"),
        ({"queries": [{}]}, "exactly one of `query` and `messages`"),
        ({"queries": [{"query": 5}]}, "`query` must be a string"),
        ({"queries": [{"messages": [{"role": "judge", "content": "x"}]}]}, "needs a role"),
        ({"queries": [{"messages": []}]}, "query is empty"),
    ],
)
def test_malformed_input_is_refused(given_input: Any, message: str) -> None:
    graph = build_graph(Switch(switch_config(), engines={name: ScriptedEngine() for name in "abc"}))
    with pytest.raises(InputError, match=message):
        graph.invoke(given_input)


@pytest.mark.parametrize("num_candidates", [2, 3, 4])
def test_the_anchor_opens_and_closes(num_candidates: int) -> None:
    names = "abcd"[:num_candidates]
    engines = {name: ScriptedEngine(lambda _, n=name: n * 9) for name in names}
    config = switch_config(
        names,
        segment={"max_tokens": 3},
        max_tokens=12,
        switcher=speaking("a"),
        anchor={"candidate": "b"},
    )
    trace, _ = run(config, engines)
    assert trace.text == "bbbaaaaaabbb"
    assert [s.decided_by for s in trace.segments] == ["anchor", "fixed", "fixed", "anchor"]
    off = config.with_changes(anchor={"first": False, "last": False})
    assert run(off, engines)[0].text == "a" * 12


def test_by_default_the_aligned_candidate_is_the_anchor() -> None:
    plain = {"kind": "plain", "plain_template": "{query}"}
    candidates = [
        {"name": name, "model": name, "prompt": plain} for name in ("aligned", "pretrained", "x")
    ]
    assert switch_config(candidates=candidates).anchor_name == "aligned"
    assert switch_config("abc").anchor_name == "c"


def test_the_answer_cue_comes_once_before_the_last_segment_and_counts() -> None:
    prefixes: list[str] = []

    def write(prefix: str) -> str:
        prefixes.append(prefix)
        return "." * 20

    config = switch_config(
        "ab", segment={"max_tokens": 12}, max_tokens=36, answer_cue=" Answer:", stop=["never"]
    )
    trace, events = run(config, {name: ScriptedEngine(write) for name in "ab"})
    assert trace.num_tokens == 36
    assert trace.text.count(" Answer:") == 1
    assert len(trace.text) - trace.text.index(" Answer:") == 12
    assert prefixes[-1].endswith(" Answer:")
    cue = next(s for s in trace.segments if s.decided_by == "cue")
    assert (cue.text, cue.speaker) == (" Answer:", "b")
    streamed = "".join(event["text"] for event in events if event["type"] == "text")
    assert streamed == trace.text


def test_a_cue_that_leaves_no_room_for_an_answer_is_left_out() -> None:
    config = switch_config("ab", segment={"max_tokens": 4}, max_tokens=10, answer_cue=" The answer")
    trace, _ = run(config, {name: ScriptedEngine(lambda _: "." * 9) for name in "ab"})
    assert trace.text == "." * 10


def test_an_eos_that_may_not_end_the_response_ends_its_segment() -> None:
    engines = {"a": ScriptedEngine(lambda _: "hi"), "b": ScriptedEngine(["1234567", "bye"])}
    config = switch_config("ab", switcher=speaking("b", "a", "a", "b"))
    trace, _ = run(config, engines)
    assert [(s.speaker, s.text, s.finish_reason) for s in trace.segments] == [
        ("b", "1234567", "length"),
        ("a", "hi", "eos"),
        ("a", "hi", "eos"),
        ("b", "bye", "eos"),
    ]
    assert trace.finish_reason == "eos"


def test_a_masked_eos_never_comes() -> None:
    plain = {"kind": "plain", "plain_template": "{query}"}
    candidates = [{"name": n, "model": n, "prompt": plain, "eos": "mask"} for n in "ab"]
    engines = {name: ScriptedEngine(lambda _: "x") for name in "ab"}
    trace, _ = run(switch_config(candidates=candidates, max_tokens=20), engines)
    assert trace.num_tokens == 20
    assert all(EOS_ID not in segment.token_ids for segment in trace.segments)
    assert engines["a"].calls or engines["b"].calls
    for calls in (engine.calls for engine in engines.values()):
        assert all(request.masked_token_ids == (EOS_ID,) for batch in calls for request in batch)


def test_candidates_that_are_all_silent_end_the_response() -> None:
    plain = {"kind": "plain", "plain_template": "{query}"}
    candidates = [{"name": n, "model": n, "prompt": plain, "eos": "end_segment"} for n in "abc"]
    engines = {name: ScriptedEngine(lambda _: "") for name in "abc"}
    trace, _ = run(switch_config(candidates=candidates), engines)
    assert trace.finish_reason == "silence"
    assert sorted(segment.speaker for segment in trace.segments) == ["a", "b", "c"]


def test_a_silent_candidate_is_asked_again_after_somebody_wrote() -> None:
    engines = {"a": ScriptedEngine(["", "A", ""]), "b": ScriptedEngine(["b", "c", ""])}
    config = switch_config(
        "ab",
        segment={"max_tokens": 1},
        switcher=speaking("a"),
        anchor={"candidate": "b", "last": False},
    )
    trace, _ = run(config, engines)
    spoken = [(segment.speaker, segment.text) for segment in trace.segments]
    assert spoken == [("b", "b"), ("a", ""), ("b", "c"), ("a", "A"), ("a", ""), ("b", "")]
    assert trace.finish_reason == "eos"


@pytest.mark.parametrize("segment", [1, 2, 3, 5])
@pytest.mark.parametrize("first", ["a", "b"])
def test_two_tokenizers_exchange_characters_whole(segment: int, first: str) -> None:
    target = MIXED * 3

    def going_on(prefix: str) -> str:
        written = prefix.removeprefix("q")
        assert target.startswith(written)  # Nothing lost, nothing doubled, nothing broken.
        return target[len(written) :]

    tokenizers = {"a": ByteTokenizer(), "b": HFTokenizer(merging_tokenizer())}
    eos = {"a": (EOS_ID,), "b": (merging_tokenizer().eos_token_id,)}
    engines = {
        n: ScriptedEngine(going_on, tokenizer=tokenizers[n], eos_token_ids=eos[n]) for n in "ab"
    }
    config = switch_config(
        "ab",
        segment={"max_tokens": segment},
        switcher=speaking("a", "b"),
        anchor={"candidate": first, "last": False},
        max_tokens=200,
    )
    trace, events = run(config, engines)
    assert trace.text == target
    assert "".join(event["text"] for event in events if event["type"] == "text") == target
    assert {segment.speaker for segment in trace.segments} == {"a", "b"}


@pytest.mark.parametrize("segment", [1, 2, 3, 5])
def test_one_tokenizer_is_handed_half_characters_token_by_token(segment: int) -> None:
    engines = {name: Recital(MIXED) for name in "ab"}
    config = switch_config(
        "ab", segment={"max_tokens": segment}, switcher=speaking("a", "b"), max_tokens=100
    )
    trace, events = run(config, engines)
    assert trace.text == MIXED
    assert "".join(event["text"] for event in events if event["type"] == "text") == MIXED


@settings(max_examples=150, deadline=None)
@given(
    text=st.text("ab🙂", min_size=1, max_size=30),
    stop=st.lists(st.text("ab🙂", min_size=1, max_size=4), min_size=1, max_size=3),
    segment=st.integers(1, 6),
)
def test_streamed_text_is_the_final_text_and_ends_before_a_stop_string(
    text: str, stop: list[str], segment: int
) -> None:
    engines: dict[str, ScriptedEngine] = {name: Recital(text) for name in "ab"}
    config = switch_config("ab", segment={"max_tokens": segment}, max_tokens=500)
    trace, events = run(config, engines, {"query": "q", "stop": stop})
    spoken: dict[int, str] = {}
    for event in events:
        if event["type"] == "text":
            assert event["text"]
            assert event["speaker"] == trace.segments[event["segment"]].speaker
            spoken[event["segment"]] = spoken.get(event["segment"], "") + event["text"]
    assert spoken == {i: s.text for i, s in enumerate(trace.segments) if s.text}
    assert all(one not in trace.text for one in stop)
    if not any(one in text for one in stop):
        assert (trace.text, trace.finish_reason) == (text, "eos")
        return
    # Who is complete first ends the response; of several, the one that began first.
    end = min(text.index(one) + len(one) for one in stop if one in text)
    start = min(text[:end].index(one) for one in stop if one in text[:end])
    assert (trace.text, trace.finish_reason) == (text[:start], "stop")


def test_each_trace_has_its_own_limits_in_one_run() -> None:
    switch = Switch(
        switch_config("ab", limits={"live_traces": 2}),
        engines={name: ScriptedEngine(lambda _: "x" * 99) for name in "ab"},
    )
    queries = [{"query": f"q{i}", "max_tokens": i} for i in (5, 40, 1, 17)]
    traces = build_graph(switch).invoke({"queries": queries})["traces"]
    assert [Trace.from_json(trace).num_tokens for trace in traces] == [5, 40, 1, 17]


def test_a_parent_graph_runs_it_as_a_subgraph_and_streams_its_text() -> None:
    engines = {name: ScriptedEngine(lambda _: "hello you") for name in "ab"}
    llm = SwitchLLM(config=switch_config("ab", max_tokens=9), engines=engines)

    class State(TypedDict, total=False):
        queries: list[str]
        traces: list[dict[str, Any]]

    parent = StateGraph(State)
    parent.add_node("switch", llm.graph)
    parent.add_edge(START, "switch")
    parent.add_edge("switch", END)
    app = parent.compile()
    pieces = [
        event["text"]
        for _, event in app.stream({"queries": ["q"]}, stream_mode="custom", subgraphs=True)
        if event["type"] == "text"
    ]
    assert "".join(pieces) == llm.invoke("q")
    assert Trace.from_json(app.invoke({"queries": ["q"]})["traces"][0]).text == "".join(pieces)


@pytest.mark.parametrize(("second_prompt", "num_rows"), [("plain", 1), ("chat", 2)])
def test_candidates_that_read_alike_on_equal_weights_share_rows(
    second_prompt: str, num_rows: int
) -> None:
    plain = {"kind": "plain", "plain_template": "{query}"}
    candidates = [
        {"name": "a", "model": "m", "prompt": plain},
        {
            "name": "b",
            "model": "m",
            "prompt": plain if second_prompt == "plain" else {"kind": "chat"},
        },
    ]
    engine = make_engine(random_model(), byte_tokenizer(TEMPLATE))
    switch = Switch(switch_config(candidates=candidates), engines={"a": engine, "b": engine})
    turn = Turn(trace_from_query("q", switch.config), "row")
    for candidate in switch.candidates.values():
        engine.generate([candidate.request(turn, max_new_tokens=3)])
    assert engine.num_rows == num_rows
    switch.release(["row"])
    assert engine.num_rows == 0


def test_engines_under_an_unknown_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="`engines` names 'z'"):
        Switch(switch_config("ab"), engines={"z": ScriptedEngine()})


def test_the_switchers_probabilities_decide_and_are_kept() -> None:
    def labels(prompt: str) -> list[float]:
        last_speaker = prompt.rsplit(" ends>", 1)[0][-1]
        return [0.7, 0.2, 0.1] if last_speaker == "2" else [0.1, 0.9, 0.0]

    engines = {n: ScriptedEngine(lambda _, n=n: n * 9) for n in "abc"}
    engines["switcher"] = ScriptedEngine(labels=labels)
    config = switch_config(
        switcher={"kind": "lm", "model": "s", "sampling": {"temperature": 0}},
        segment={"max_tokens": 2},
        max_tokens=8,
    )
    trace, events = run(config, engines)
    assert trace.text == "ccaabbcc"
    second = trace.segments[1]
    assert (second.decided_by, second.speaker) == ("switcher", "a")
    assert second.probabilities == pytest.approx((0.7, 0.2, 0.1))
    decisions = [event for event in events if event["type"] == "decision"]
    assert [d["speaker"] for d in decisions] == [s.speaker for s in trace.segments]
