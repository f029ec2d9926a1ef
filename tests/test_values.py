"""The values: configuration, traces, seeds and stop strings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from langgraph_switch.config import SwitchConfig
from langgraph_switch.errors import ConfigError
from langgraph_switch.seeds import content_id, derive_seed, derive_uniform
from langgraph_switch.stops import StopWatch, find_stop, held_length
from langgraph_switch.trace import Message, Segment, Trace

TWO: list[dict[str, Any]] = [{"name": "a", "model": "x"}, {"name": "b", "model": "y"}]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {
            "switcher": {"kind": "lm", "candidate": "b", "adapter": "z", "prompt": "chat"},
            "anchor": {"candidate": "a", "last": False},
            "answer_cue": " The final answer is",
            "stop": ["\n\n", "###"],
            "seed": 2**62,
            "sampling": {"temperature": 0, "top_p": 0.5, "top_k": 7},
        },
        {"switcher": {"kind": "fixed", "order": ["a", "b", "b"]}},
        {"switcher": {"kind": "random", "weights": {"a": 1, "b": 0}}},
    ],
)
def test_a_configuration_survives_its_file(fields: dict[str, Any], tmp_path: Path) -> None:
    config = SwitchConfig.from_dict({"candidates": TWO} | fields)
    assert SwitchConfig.load(config.save(tmp_path)) == config
    assert SwitchConfig.load(tmp_path / "switch.json") == config
    assert SwitchConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"candidates": TWO[:1]}, r"candidates: needs at least 2 candidates .* got 1"),
        ({"candidates": [TWO[0], TWO[0]]}, r"candidates: duplicate candidate name 'a'"),
        ({"candidates": [*TWO, {"name": "c"}]}, r"candidates.2.model: Field required"),
        ({"candidates": [*TWO, {"name": "", "model": "z"}]}, r"candidates.2.name: "),
        ({"candidats": TWO}, r"candidats: Extra inputs(?s:.*)correct its spelling"),
        ({"anchor": {"candidate": "z"}}, r"anchor.candidate: no candidate is named 'z'; .* a, b"),
        ({"switcher": {"kind": "lm", "candidate": "z"}}, r"switcher.candidate: no candidate"),
        ({"switcher": {"kind": "lm"}}, r"switcher.lm: give exactly one of `model` and"),
        ({"switcher": {"kind": "magic"}}, r"switcher: .*'lm', 'head', 'random', 'fixed'"),
        ({"switcher": {"kind": "fixed", "order": ["q"]}}, r"switcher.order: no candidate"),
        ({"switcher": {"kind": "random", "weights": {"a": -1}}}, r"weights.a: .*greater"),
        ({"switcher": {"kind": "random", "weights": {"a": 0}}}, r"at least one must be above 0"),
        ({"sampling": {"top_p": 0}}, r"sampling.top_p: .*greater than 0"),
        ({"sampling": {"top_p": 1.5}}, r"sampling.top_p: .*less than or equal to 1"),
        ({"sampling": {"temperature": -1}}, r"sampling.temperature: .*greater than or equal"),
        ({"sampling": {"temperature": float("nan")}}, r"sampling.temperature: .*finite"),
        ({"segment": {"max_tokens": 0}}, r"segment.max_tokens: .*greater than or equal to 1"),
        ({"max_tokens": 0}, r"max_tokens: .*greater than or equal to 1"),
        ({"stop": [""]}, r"stop.0: .*at least 1 character"),
        ({"seed": -1}, r"seed: .*greater than or equal to 0"),
    ],
)
def test_an_invalid_configuration_is_refused_with_path_and_fix(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        SwitchConfig.from_dict({"candidates": TWO} | change)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"candidates": [}', r"no valid JSON: .* line 1, column 17"),
        ("[1]", r"holds a list, not an object"),
        ('{"schema_version": 99}', r"schema version 99; .*(?s:.*)pip install --upgrade"),
    ],
)
def test_a_malformed_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "switch.json"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        SwitchConfig.load(file)
    with pytest.raises(ConfigError, match="no configuration at"):
        SwitchConfig.load(tmp_path / "other.json")


def test_paths_beside_the_file_are_found_from_anywhere(tmp_path: Path) -> None:
    candidates = [{"name": "a", "model": "./a"}, {"name": "b", "model": "user/b"}]
    SwitchConfig.from_dict({"candidates": candidates}).save(tmp_path)
    config = SwitchConfig.load(tmp_path)
    assert config.resolve_model("./a") == str(tmp_path.resolve() / "a")
    assert config.resolve_model("user/b") == "user/b"
    assert config.with_changes(seed=3).resolve_model("./a") == str(tmp_path.resolve() / "a")


SEGMENTS = st.builds(
    Segment,
    speaker=st.sampled_from("abc"),
    text=st.text(max_size=8),
    token_ids=st.lists(st.integers(0, 10**6), max_size=5).map(tuple),
    tokenizer=st.just("t"),
    decided_by=st.sampled_from(["anchor", "switcher", "random"]),
    finish_reason=st.sampled_from(["length", "eos", "stop"]),
    probabilities=st.none() | st.lists(st.floats(0, 1), min_size=2, max_size=3).map(tuple),
    decide_s=st.floats(0, 10),
)
TRACES = st.builds(
    Trace,
    messages=st.just((Message(role="user", content="q"),)),
    trace_id=st.text(max_size=5),
    seed=st.integers(0, 2**62),
    max_tokens=st.integers(1, 999),
    stop=st.lists(st.text(min_size=1), max_size=2).map(tuple),
    temperature=st.none() | st.floats(0, 2),
    segments=st.lists(SEGMENTS, max_size=5).map(tuple),
    finish_reason=st.sampled_from([None, "eos", "length"]),
)


@given(trace=TRACES)
def test_a_trace_survives_json_and_every_checkpointers_serialiser(trace: Trace) -> None:
    assert Trace.from_json(json.loads(json.dumps(trace.to_json()))) == trace
    serialiser = JsonPlusSerializer()
    stored = serialiser.loads_typed(serialiser.dumps_typed(trace.to_json()))
    assert Trace.from_json(stored) == trace


@given(trace=TRACES, length=st.integers(0, 60))
def test_cutting_text_keeps_tokens(trace: Trace, length: int) -> None:
    cut = trace.cut_text(length)
    assert cut.text == trace.text[:length]
    assert cut.num_tokens == trace.num_tokens == sum(trace.tokens_by_speaker().values())
    assert cut.num_tokens_left == trace.max_tokens - trace.num_tokens


TEXTS = st.text("ab", max_size=20)
STOPS = st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=3)


@given(pieces=st.lists(TEXTS, max_size=6), stop=STOPS)
def test_a_watch_sees_a_stop_string_as_soon_as_it_is_complete(
    pieces: list[str], stop: list[str]
) -> None:
    watch = StopWatch(stop)
    seen = ""
    for piece in pieces:
        seen += piece
        if any(one in seen for one in stop):
            assert watch.push(piece) == bool(piece)
            return
        assert not watch.push(piece)


@given(before=TEXTS, text=TEXTS, stop=STOPS)
def test_a_stop_string_is_found_where_it_begins(before: str, text: str, stop: list[str]) -> None:
    whole = before + text
    ends_late = [
        index
        for one in stop
        for index in range(len(whole))
        if whole.startswith(one, index) and index + len(one) > len(before)
    ]
    assert find_stop(whole, stop, start=len(before)) == min(ends_late, default=None)


@given(text=TEXTS, more=TEXTS, stop=STOPS)
def test_what_is_not_held_can_never_belong_to_a_stop_string(
    text: str, more: str, stop: list[str]
) -> None:
    shown = len(text) - held_length(text, stop)
    starts = [
        index
        for one in stop
        for index in range(len(text))
        if (text + more).startswith(one, index) and index + len(one) > len(text)
    ]
    assert all(index >= shown for index in starts)


def test_draws_depend_on_every_part_of_their_name_and_on_nothing_else() -> None:
    names: list[tuple[int, str, int, str]] = [
        (1, "t", 0, "x"),
        (2, "t", 0, "x"),
        (1, "u", 0, "x"),
        (1, "t", 1, "x"),
        (1, "t", 0, "y"),
        (11, "t", 0, "x"),
        (1, "t", 10, "x"),
    ]
    seeds = [derive_seed(*name) for name in names]
    assert len(set(seeds)) == len(names)
    assert seeds == [derive_seed(*name) for name in names]
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert all(0 <= derive_uniform(*name) < 1 for name in names)
    assert derive_seed(0, "trace", 0, "tokens") == 960425044102697206
    assert content_id("a") != content_id("b")
