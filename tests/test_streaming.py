from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import switch_config

from langgraph_switch import ScriptedEngine, Segment, SwitchLLM, Trace
from langgraph_switch.floor import Decision
from langgraph_switch.queries import trace_from_query
from langgraph_switch.streaming import TextEmitter, decision_event

PLAIN = {"kind": "plain", "plain_template": "{query}"}
BY_B = Decision(speaker="b", decided_by="switcher", probabilities=(0.25, 0.75))


def trace(*texts: str, stop: tuple[str, ...] = ()) -> Trace:
    """Return a trace in progress, its segments written by turns."""
    begun = replace(trace_from_query("q", switch_config("ab")), stop=stop)
    for number, text in enumerate(texts):
        segment = Segment(
            speaker="ab"[number % 2],
            text=text,
            token_ids=tuple(text.encode()),
            tokenizer="bytes",
            decided_by="fixed",
            finish_reason="length",
        )
        begun = begun.append(segment)
    return begun


def shown(events: list[Any]) -> list[tuple[int, str, str]]:
    return [(event["segment"], event["speaker"], event["text"]) for event in events]


def test_without_stop_strings_all_text_is_shown_at_once() -> None:
    events: list[Any] = []
    emitter = TextEmitter(4, trace("x"), events.append)
    emitter.push(1, BY_B, "hel")
    emitter.push(1, BY_B, "")
    emitter.push(1, BY_B, "lo")
    assert shown(events) == [(1, "b", "hel"), (1, "b", "lo")]
    assert {event["trace"] for event in events} == {4}
    assert events[0]["decided_by"] == "switcher"
    assert events[0]["probabilities"] == [0.25, 0.75]


def test_what_may_become_a_stop_string_is_held_and_keeps_its_writer() -> None:
    events: list[Any] = []
    emitter = TextEmitter(0, trace("so E", "N", stop=("END",)), events.append)
    emitter.push(2, BY_B, "oug")
    emitter.push(2, BY_B, "h E")
    assert shown(events) == [(0, "a", "E"), (1, "b", "N"), (2, "b", "oug"), (2, "b", "h ")]
    emitter.flush()
    assert shown(events)[-1] == (2, "b", "E")


def test_a_stop_string_and_what_follows_it_are_never_shown() -> None:
    events: list[Any] = []
    emitter = TextEmitter(0, trace("so E", stop=("END",)), events.append)
    emitter.push(1, BY_B, "ND of it")
    assert shown(events) == []
    emitter = TextEmitter(0, trace("so ", stop=("END",)), events.append)
    emitter.push(1, BY_B, "the END of it")
    assert shown(events) == [(1, "b", "the ")]


def test_a_decision_names_the_segment_that_it_is_about() -> None:
    event = decision_event(3, trace("x", "y"), BY_B)
    assert (event["trace"], event["segment"], event["speaker"]) == (3, 2, "b")
    assert event["probabilities"] == [0.25, 0.75]


def test_a_cue_with_a_stop_string_is_shown_though_nothing_follows() -> None:
    engines = {"a": ScriptedEngine(["y" * 7]), "b": ScriptedEngine(["x" * 7, ""])}
    config = switch_config("ab", max_tokens=20, answer_cue="\n\nSo:", stop=["\n\n"])
    llm = SwitchLLM(
        config=config.with_changes(switcher={"kind": "fixed", "order": ["a"]}), engines=engines
    )
    assert "".join(llm.stream("q")) == "x" * 7 + "y" * 7 + "\n\nSo:"


@settings(max_examples=100, deadline=None)
@given(
    texts=st.lists(st.text("ab.", max_size=8), min_size=1, max_size=6),
    stop=st.lists(st.text("ab.", min_size=1, max_size=3), max_size=2),
    cue=st.text("ab.", min_size=1, max_size=5),
)
def test_a_cue_is_shown_whatever_stop_strings_it_holds(
    texts: list[str], stop: list[str], cue: str
) -> None:
    scripts = {name: iter(texts) for name in "ab"}
    engines = {n: ScriptedEngine(lambda _, n=n: next(scripts[n], "a.b.")) for n in "ab"}
    candidates = [{"name": n, "model": n, "prompt": PLAIN, "eos": "end_segment"} for n in "ab"]
    config = switch_config(
        candidates=candidates,
        segment={"max_tokens": 7},
        max_tokens=20,
        answer_cue=cue,
        switcher={"kind": "fixed", "order": ["a", "b"]},
    )
    llm = SwitchLLM(config=config, engines=engines)
    provenance: list[dict[str, Any]] = []
    final: dict[str, Any] = {}
    for chunk in llm._stream("q", stop=stop):
        final = chunk.generation_info or {}
        provenance += final.get("provenance", [])
    found = Trace.from_json(final["trace"])
    assert "".join(source["text"] for source in provenance) == found.text
    for source in provenance:
        segment = found.segments[source["segment"]]
        assert source["speaker"] == segment.speaker
        assert source["decided_by"] == segment.decided_by
    assert sum(segment.decided_by == "cue" for segment in found.segments) <= 1
