from __future__ import annotations

import pytest

from langgraph_switch.offline.patterns import (
    longest_turns,
    sequence_effects,
    shares_by_position,
    transitions,
)
from langgraph_switch.trace import DecidedBy, Message, Segment, Trace


def trace(speakers: str, *, tokens: int = 2, by: DecidedBy = "switcher") -> Trace:
    segments = tuple(
        Segment(
            speaker=speaker.lower(),
            text="x" * tokens,
            token_ids=() if speaker.isupper() else (1,) * tokens,
            tokenizer="t",
            decided_by=by,
            finish_reason="length",
        )
        for speaker in speakers
    )
    message = Message(role="user", content="q")
    return Trace(messages=(message,), trace_id="t", seed=0, max_tokens=99, segments=segments)


def test_shares_by_position_count_tokens() -> None:
    found = shares_by_position([trace("ab"), trace("aa")], "ab", num_bins=2)
    assert found == [[1.0, 0.0], [0.5, 0.5]]
    longer = shares_by_position([trace("aaab", tokens=1)], "ab", num_bins=4)
    assert longer == [[1, 0], [1, 0], [1, 0], [0, 1]]


def test_transitions_begin_and_end_and_skip_the_silent() -> None:
    found = transitions([trace("abb"), trace("aBa")], "ab")
    assert found["start"] == {"a": 2, "b": 0, "end": 0}
    assert found["a"] == {"a": 1, "b": 1, "end": 1}
    assert found["b"] == {"a": 0, "b": 1, "end": 1}


def test_a_cue_is_nobodys_turn() -> None:
    cue = trace("b", by="cue").segments
    asked = trace("a")
    whole = Trace(
        messages=asked.messages, trace_id="t", seed=0, max_tokens=9, segments=asked.segments + cue
    )
    assert transitions([whole], "ab")["a"] == {"a": 0, "b": 0, "end": 1}


def test_a_sequence_s_effect_is_the_difference_it_makes() -> None:
    traces = [trace("aab"), trace("aba"), trace("aaa"), trace("bbb"), trace("ab")]
    scores = [1.0, 1.0, 0.0, 0.0, None]
    found = {one.sequence: one for one in sequence_effects(traces, scores, length=2)}
    with_ab = found["a", "b"]
    assert (with_ab.responses, with_ab.share) == (2, 0.5)
    assert with_ab.effect == pytest.approx(1.0)
    assert with_ab.low <= with_ab.effect <= with_ab.high
    assert found["a", "a"].effect == pytest.approx(0.5 - 0.5)
    everywhere = sequence_effects([trace("ab"), trace("ab")], [1.0, 0.0], length=2)
    assert everywhere[0].effect is None
    assert sequence_effects([trace("a")], [1.0], length=3) == []


def test_turns_are_counted_in_segments() -> None:
    assert longest_turns([trace("aab"), trace("a")], "abc") == {"a": 1.5, "b": 1.0, "c": 0.0}
