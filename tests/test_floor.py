from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import switch_config

from langgraph_switch import Segment, SwitchConfig, Trace
from langgraph_switch.config import GREEDY, Sampling
from langgraph_switch.floor import (
    cut_at_stop,
    draw_speaker,
    is_last_segment,
    needs_cue,
    response_end,
    ruled_decision,
    silent_candidates,
)
from langgraph_switch.queries import trace_from_query

CONFIG = switch_config(segment={"max_tokens": 4}, max_tokens=12, anchor={"candidate": "b"})


def trace(*written: tuple[str, str, str], stop: tuple[str, ...] = ()) -> Trace:
    """Return a trace of (speaker, text, finish reason); every character is a token."""
    begun = replace(trace_from_query("q", CONFIG), stop=stop)
    for speaker, text, reason in written:
        segment: dict[str, Any] = {"finish_reason": reason, "decided_by": "fixed"}
        if reason == "cue":
            segment = {"finish_reason": "length", "decided_by": "cue"}
        ids = tuple(text.encode())
        begun = begun.append(
            Segment(speaker=speaker, text=text, token_ids=ids, tokenizer="bytes", **segment)
        )
    return begun


def test_who_said_nothing_is_silent_until_somebody_writes() -> None:
    assert silent_candidates(trace()) == frozenset()
    quiet = trace(("a", "x", "eos"), ("b", "", "eos"), ("c", "", "eos"))
    assert silent_candidates(quiet) == {"b", "c"}
    assert silent_candidates(trace(("b", "", "eos"), ("a", "x", "length"))) == frozenset()


@pytest.mark.parametrize(
    ("written", "anchored"), [("", True), ("1234", False), ("12345678", True), ("1234567", False)]
)
def test_the_anchor_has_the_first_and_the_last_segment(written: str, anchored: bool) -> None:
    texts = [("a", written, "length")] if written else []
    decision = ruled_decision(trace(*texts), CONFIG)
    assert (decision is not None) is anchored
    if decision:
        assert (decision.speaker, decision.decided_by) == ("b", "anchor")


def test_an_anchor_that_is_switched_off_or_silent_gets_no_turn() -> None:
    off = CONFIG.with_changes(anchor={"candidate": "b", "first": False, "last": False})
    last = trace(("a", "123456789", "length"))
    assert ruled_decision(trace(), off) is None
    assert ruled_decision(last, off) is None
    assert ruled_decision(last, CONFIG) is not None
    assert ruled_decision(trace(("a", "123456789", "length"), ("b", "", "eos")), CONFIG) is None


def test_the_cue_is_due_once_before_the_last_segment() -> None:
    with_cue = CONFIG.with_changes(answer_cue="!")
    early, late = trace(("a", "1234", "length")), trace(("a", "12345678", "length"))
    assert (is_last_segment(early, CONFIG), is_last_segment(late, CONFIG)) == (False, True)
    assert not needs_cue(early, with_cue)
    assert needs_cue(late, with_cue)
    assert not needs_cue(late, CONFIG)
    assert not needs_cue(trace(("a", "12345678", "length"), ("b", "!", "cue")), with_cue)
    short = with_cue.with_changes(max_tokens=4)
    assert not needs_cue(replace(trace(), max_tokens=4), short)


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ([("a", "12", "length")], None),
        ([("a", "12", "eos")], None),
        ([("b", "12", "eos")], "eos"),
        ([("b", "", "eos")], "eos"),
        ([("a", "12", "stop")], "stop"),
        ([("a", "123456789012", "length")], "length"),
        ([("a", "123456789012", "eos")], "length"),
        ([("b", "123456789012", "eos")], "eos"),
        ([("a", "123456789012", "stop")], "stop"),
        ([("a", "", "eos"), ("c", "", "eos")], None),
        ([("a", "1", "eos"), ("a", "", "eos"), ("c", "", "eos")], None),
    ],
)
def test_why_a_response_ends(written: list[tuple[str, str, str]], reason: str | None) -> None:
    assert response_end(trace(*written), CONFIG) == reason


def test_silence_ends_a_response_that_nobody_may_end() -> None:
    plain = {"kind": "plain"}
    candidates = [{"name": n, "model": n, "prompt": plain, "eos": "end_segment"} for n in "ab"]
    config = SwitchConfig.from_dict({"candidates": candidates})
    assert response_end(trace(("a", "", "eos")), config) is None
    assert response_end(trace(("a", "", "eos"), ("b", "", "eos")), config) == "silence"


def test_a_stopped_trace_ends_before_its_stop_string_and_keeps_its_tokens() -> None:
    cut = cut_at_stop(trace(("a", "so E", "length"), ("b", "ND it", "stop"), stop=("END",)))
    assert [segment.text for segment in cut.segments] == ["so ", ""]
    assert cut.num_tokens == 9
    whole = trace(("a", "so", "length"), stop=("END",))
    assert cut_at_stop(whole) == whole


WEIGHTS = st.lists(st.floats(0, 1, allow_subnormal=False), min_size=2, max_size=12)
SAMPLINGS = st.builds(
    Sampling,
    temperature=st.floats(0.1, 3),
    top_p=st.floats(0.05, 1),
    top_k=st.none() | st.integers(1, 5),
)


def names(weights: list[float]) -> list[str]:
    return [chr(ord("a") + index) for index in range(len(weights))]


@given(WEIGHTS, SAMPLINGS, st.floats(0, 1, exclude_max=True), st.data())
def test_a_drawn_speaker_is_open_and_likely_enough(
    weights: list[float], sampling: Sampling, uniform: float, data: st.DataObject
) -> None:
    excluded = set(data.draw(st.lists(st.sampled_from(names(weights)), max_size=len(weights) - 1)))
    if len(excluded) == len(weights):
        return
    drawn = draw_speaker(names(weights), weights, sampling, uniform=uniform, excluded=excluded)
    assert drawn not in excluded
    by_name = dict(zip(names(weights), weights, strict=True))
    is_open = [by_name[name] for name in by_name if name not in excluded]
    assert by_name[drawn] > 0 or not any(is_open)
    if sampling.top_k is not None:
        assert sum(p > by_name[drawn] for p in is_open) < sampling.top_k


def test_draws_follow_the_tempered_probabilities_within_the_nucleus() -> None:
    def shares(sampling: Sampling) -> list[float]:
        grid = [(index + 0.5) / 1000 for index in range(1000)]
        drawn = Counter(draw_speaker("abc", (0.2, 0.5, 0.3), sampling, uniform=u) for u in grid)
        return [drawn[name] / 1000 for name in "abc"]

    assert shares(Sampling(temperature=1, top_p=1)) == pytest.approx([0.2, 0.5, 0.3], abs=2e-3)
    assert shares(Sampling(temperature=1, top_p=0.8)) == pytest.approx([0, 0.625, 0.375], abs=2e-3)
    assert shares(Sampling(temperature=1, top_p=1, top_k=1)) == [0, 1, 0]
    assert shares(GREEDY) == [0, 1, 0]
    tempered = [math.sqrt(p) for p in (0.2, 0.5, 0.3)]
    expected = [p / sum(tempered) for p in tempered]
    assert shares(Sampling(temperature=2, top_p=1)) == pytest.approx(expected, abs=2e-3)


def test_equal_probabilities_keep_the_configured_order_when_greedy() -> None:
    assert draw_speaker("abc", (0.5, 0.5, 0), GREEDY, uniform=0.9) == "a"
    assert draw_speaker("abc", (0.5, 0.5, 0), GREEDY, uniform=0.9, excluded="a") == "b"
    assert draw_speaker("abc", (1, 0, 0), GREEDY, uniform=0.9, excluded="a") == "b"
