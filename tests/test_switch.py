from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from tiny_models import (
    TEMPLATE,
    Recital,
    byte_tokenizer,
    greedy,
    make_engine,
    merging_tokenizer,
    random_model,
    switch_config,
)
from typing_extensions import TypedDict

from langgraph_switch import Message, ScriptedEngine, Segment, Switch, SwitchLLM, Trace
from langgraph_switch.config import GREEDY
from langgraph_switch.engines.memory import BLOCK_TOKENS
from langgraph_switch.engines.tokenizer import HFTokenizer
from langgraph_switch.engines.transformers_engine import TransformersEngine
from langgraph_switch.errors import ContextLengthError, InputError
from langgraph_switch.floor import Decision
from langgraph_switch.loop import finish_traces
from langgraph_switch.queries import trace_from_query
from langgraph_switch.switch import Draft
from langgraph_switch.switchers.base import Turn
from langgraph_switch.switchers.simple import RandomSwitcher

QUERIES = ["hello", "how are you today?", "naïve 🙂 日本語", "1 2 3"]
SAMPLED: dict[str, Any] = {"temperature": 1.0, "top_p": 0.95}
PLAIN = {"kind": "plain", "plain_template": "{query}"}


def scripted(names: str = "abc", **fields: Any) -> Switch:
    engines = {name: ScriptedEngine(lambda _, n=name: n * 9) for name in names}
    return Switch(switch_config(names, **fields), engines=engines)


def segment(speaker: str, text: str) -> Segment:
    return Segment(
        speaker=speaker,
        text=text,
        token_ids=tuple(text.encode()),
        tokenizer="bytes",
        decided_by="fixed",
        finish_reason="length",
    )


def traces(llm: SwitchLLM, queries: Sequence[str]) -> list[Trace]:
    result = llm.generate(list(queries))
    return [Trace.from_json((row[0].generation_info or {})["trace"]) for row in result.generations]


def assert_same_but_times(found: Trace, expected: Trace) -> None:
    assert len(found.segments) == len(expected.segments)
    for one, other in zip(found.segments, expected.segments, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)
        times = {"decide_s": 0.0, "generate_s": 0.0, "probabilities": None}
        assert replace(one, **times) == replace(other, **times)
    assert replace(found, segments=()) == replace(expected, segments=())


def test_a_decision_asks_the_switcher_once_for_those_who_have_no_anchor_turn() -> None:
    asked: list[int] = []

    class Counting(RandomSwitcher):
        sampling = GREEDY

        def probabilities(self, turns: Sequence[Turn]) -> list[tuple[float, ...]]:
            asked.append(len(turns))
            return super().probabilities(turns)

    engines = {name: ScriptedEngine() for name in "abc"}
    switch = Switch(switch_config(), engines=engines, switcher=Counting("abc", {"b": 1}))
    begun = trace_from_query("q", switch.config)
    grown = begun.append(segment("c", "1234567"))
    full = begun.append(segment("c", "1" * 55))
    decisions = switch.decide([Turn(t, "r") for t in (begun, grown, full, grown)])
    assert asked == [2]
    assert [(d.speaker, d.decided_by) for d in decisions] == [
        ("c", "anchor"),
        ("b", "random"),
        ("c", "anchor"),
        ("b", "random"),
    ]
    assert [d.probabilities for d in decisions] == [None, (0, 1, 0), None, (0, 1, 0)]


def test_steps_leave_their_traces_as_they_were() -> None:
    switch = scripted()
    trace = trace_from_query("q", switch.config)
    before = trace.to_json()
    (draft,) = switch.write("b", [Turn(trace, "r")], [Decision(speaker="b", decided_by="fixed")])
    grown = switch.append(trace, draft)
    assert trace.to_json() == before
    assert (grown.text, draft.segment.speaker, draft.segment.tokenizer) == ("b" * 7, "b", "bytes")


def test_a_character_that_nobody_completes_is_shown_broken_at_the_end() -> None:
    switch = scripted("ab", max_tokens=7)
    trace = trace_from_query("q", switch.config)
    half = replace(segment("b", "x"), token_ids=(120, 0xF0, 0x9F))
    assert switch.append(trace, Draft(half, "\ufffd")).text == "x"
    full = replace(half, token_ids=(120, 120, 120, 120, 120, 0xF0, 0x9F))
    ended = switch.append(trace, Draft(full, "\ufffd"))
    assert (ended.text, ended.finish_reason) == ("x\ufffd", "length")


@pytest.mark.parametrize("query", ["", " \n\t"])
def test_an_empty_query_is_refused(query: str) -> None:
    switch = scripted()
    with pytest.raises(InputError, match="query is empty"):
        switch.check(trace_from_query(query, switch.config))
    with pytest.raises(InputError, match="query is empty"):
        switch.check(replace(trace_from_query("q", switch.config), messages=()))


def test_the_candidate_with_too_short_a_context_is_named() -> None:
    engines = {"a": ScriptedEngine(), "b": ScriptedEngine(max_context_tokens=64)}
    switch = Switch(switch_config("ab"), engines=engines)
    switch.check(trace_from_query("1234", switch.config))
    with pytest.raises(ContextLengthError, match=r"'b' needs 65 .* holds 64: 1 too many") as caught:
        switch.check(trace_from_query("12345", switch.config))
    assert (caught.value.model, caught.value.num_tokens, caught.value.max_tokens) == ("b", 65, 64)
    assert "set max_tokens to at most 59" in caught.value.hint


def test_no_room_for_a_cue_is_judged_by_the_tokens_of_its_speaker() -> None:
    switch = scripted("ab", answer_cue=" So:", max_tokens=14)
    with_room = Turn(trace_from_query("q", switch.config).append(segment("a", "1" * 9)), "r")
    without = Turn(with_room.trace.append(segment("a", "1")), "r")
    grown = [turn.trace for turn in switch.with_cues("b", [with_room, without])]
    assert [len(trace.segments) for trace in grown] == [2, 1 + 1]
    assert grown[0].segments[-1].decided_by == "cue"
    assert grown[0].num_tokens == 13
    assert grown[1].segments[-1].decided_by == "fixed"


@pytest.mark.parametrize("kind", ["plain", "chat"])
def test_copies_loaded_from_disk_equal_plain_generate(tmp_path: Path, kind: str) -> None:
    model, tokenizer = random_model(), byte_tokenizer(TEMPLATE)
    for name in "ab":
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    prompt = PLAIN if kind == "plain" else {"kind": "chat"}
    candidates = [{"name": name, "model": f"./{name}", "prompt": prompt} for name in "ab"]
    path = switch_config(candidates=candidates, switcher={"kind": "lm", "candidate": "a"}).save(
        tmp_path
    )
    llm = SwitchLLM.from_config(path)
    engines = {c.engine for c in llm.switch.candidates.values()}
    assert len(engines) == 2
    for query, trace in zip(QUERIES, traces(llm, QUERIES), strict=True):
        text = query
        if kind == "chat":
            text = HFTokenizer(tokenizer).render_chat([Message(role="user", content=query)])
        expected = greedy(model, tokenizer.encode(text, add_special_tokens=False), 60)
        assert [token for one in trace.segments for token in one.token_ids] == expected
        assert {one.speaker for one in trace.segments} == {"a", "b"}


def two_vocabularies(**fields: Any) -> SwitchLLM:
    engines: dict[str, TransformersEngine] = {
        "a": make_engine(random_model(seed=1)),
        "b": make_engine(random_model(seed=2, vocab_size=290), merging_tokenizer()),
    }
    defaults: dict[str, Any] = {
        "sampling": SAMPLED,
        "switcher": {"kind": "lm", "candidate": "b"},
        "segment": {"max_tokens": 3},
        "max_tokens": 40,
    }
    return SwitchLLM(config=switch_config("ab", **(defaults | fields)), engines=engines)


def test_models_of_two_vocabularies_repeat_themselves_alone_and_in_a_batch() -> None:
    llm = two_vocabularies()
    alone = [traces(llm, [query])[0] for query in QUERIES]
    for found, expected in zip(traces(llm, QUERIES), alone, strict=True):
        assert_same_but_times(found, expected)
        assert found.num_tokens <= 40
    assert ["".join(llm.stream(query)) for query in QUERIES] == [trace.text for trace in alone]
    one_by_one = two_vocabularies(limits={"live_traces": 1, "kv_cache_bytes": 0})
    assert [trace.text for trace in traces(one_by_one, QUERIES)] == [t.text for t in alone]


def test_outside_of_a_graph_traces_end_the_same_way() -> None:
    llm = two_vocabularies()
    turns = [
        Turn(trace_from_query(query, llm.config), str(index)) for index, query in enumerate(QUERIES)
    ]
    ended: dict[int, Trace] = {}
    found = finish_traces(llm.switch, turns, live_traces=2, on_end=ended.__setitem__)
    for one, expected in zip(found, traces(llm, QUERIES), strict=True):
        assert_same_but_times(one, expected)
    assert [ended[index] for index in range(len(QUERIES))] == found
    again = finish_traces(llm.switch, [replace(turns[0], trace=found[0])])
    assert again == [found[0]]


def test_as_many_traces_are_live_as_memory_holds() -> None:
    config = switch_config("ab", max_tokens=20, switcher={"kind": "lm", "candidate": "a"})
    asked = [trace_from_query(query, config) for query in QUERIES]
    per_token = make_engine(random_model()).rows_that_fit(1)
    row_bytes = 2**30 // per_token  # Of one block: no query and response here is longer.
    longest = max(len(query.encode()) for query in QUERIES) + 20
    blocks = -(-longest // BLOCK_TOKENS)

    def num_live(rows: float, **limits: int) -> int:
        size = int(rows * blocks * row_bytes)
        engines = {name: make_engine(random_model(), kv_cache_bytes=size) for name in "ab"}
        return Switch(config.with_changes(limits=limits), engines=engines).num_live(asked)

    assert num_live(6.5) == 3  # The candidate that also decides keeps two rows of each.
    assert num_live(6.5, live_traces=2) == 2
    assert num_live(0.5) == num_live(0) == config.limits.live_traces  # Nothing to lose.


def test_no_traces_are_finished_at_once() -> None:
    engines = {name: make_engine(random_model()) for name in "ab"}
    assert finish_traces(Switch(switch_config("ab"), engines=engines), []) == []


def test_a_subgraph_of_a_checkpointed_parent_answers_every_turn_anew() -> None:
    llm = SwitchLLM(
        config=switch_config("ab", max_tokens=9),
        engines={name: ScriptedEngine(lambda prefix: prefix[:1] * 9) for name in "ab"},
    )

    class State(TypedDict, total=False):
        queries: list[str]
        traces: list[dict[str, Any]]

    parent = StateGraph(State)
    parent.add_node("first", llm.graph)
    parent.add_node("second", llm.graph)
    parent.add_edge(START, "first")
    parent.add_edge("first", "second")
    parent.add_edge("second", END)
    app = parent.compile(checkpointer=InMemorySaver())
    thread: Any = {"configurable": {"thread_id": "t"}}
    for queries in (["x", "y"], ["z"]):
        found = app.invoke({"queries": queries}, thread)["traces"]
        assert [Trace.from_json(one).text for one in found] == [query * 9 for query in queries]


def test_segments_may_end_with_a_sentence_and_switching_copies_changes_nothing() -> None:
    text = "One two. Three four five six seven eight nine! Ten"
    config = switch_config(
        segment={"max_tokens": 16, "end_at": "sentence"}, switcher={"kind": "random"}
    )
    engines = {name: Recital(text) for name in "abc"}
    turn = Turn(trace_from_query("q", config), "row")
    (trace,) = finish_traces(Switch(config, engines=engines), [turn])
    assert trace.text == text
    assert [one.text for one in trace.segments] == [
        "One two.",
        " Three four five",
        " six seven eight",
        " nine!",
        " Ten",
    ]
    ends = ["boundary", "length", "length", "boundary", "eos"]
    assert [one.finish_reason for one in trace.segments[:-1]] == ends[:-1]
