from __future__ import annotations

import pytest
from tiny_models import switch_config

from langgraph_switch import ScriptedEngine, SwitchLLM, Trace
from langgraph_switch.queries import trace_from_query
from langgraph_switch.switchers.base import Turn
from langgraph_switch.switchers.simple import FixedSwitcher, RandomSwitcher

TURN = Turn(trace_from_query("q", switch_config()), "row")
NO_ANCHOR = {"first": False, "last": False}


def speakers(query: str, **fields: object) -> list[str]:
    engines = {name: ScriptedEngine(lambda _: "x" * 9) for name in "abc"}
    config = switch_config(segment={"max_tokens": 1}, anchor=NO_ANCHOR, **fields)
    info = SwitchLLM(config=config, engines=engines).generate([query]).generations[0][0]
    trace = Trace.from_json((info.generation_info or {})["trace"])
    return [segment.speaker for segment in trace.segments]


def test_random_is_uniform_or_follows_its_weights() -> None:
    assert RandomSwitcher("abc").probabilities([TURN, TURN]) == [(1 / 3, 1 / 3, 1 / 3)] * 2
    assert RandomSwitcher("abc", {"c": 3, "a": 1}).probabilities([TURN]) == [(0.25, 0, 0.75)]


def test_random_speakers_differ_by_query_and_seed_and_repeat_by_both() -> None:
    first = speakers("one")
    assert set(first) == set("abc")
    assert speakers("one") == first
    assert speakers("two") != first
    assert speakers("one", seed=2) != first


def test_weights_of_zero_are_never_drawn() -> None:
    drawn = speakers("one", switcher={"kind": "random", "weights": {"a": 1, "c": 4}})
    assert set(drawn) == {"a", "c"}
    assert drawn.count("c") > drawn.count("a")


def test_a_fixed_order_is_followed_again_and_again() -> None:
    drawn = speakers("q", switcher={"kind": "fixed", "order": ["b", "b", "a"]}, max_tokens=7)
    assert drawn == ["b", "b", "a", "b", "b", "a", "b"]
    switcher = FixedSwitcher("abc", ["b", "c"])
    assert switcher.probabilities([TURN]) == [(0.0, 1.0, 0.0)]


@pytest.mark.parametrize("switcher", [RandomSwitcher("ab"), FixedSwitcher("ab", "a")])
def test_policies_without_a_model_accept_any_trace(
    switcher: RandomSwitcher | FixedSwitcher,
) -> None:
    switcher.check(TURN.trace)
    switcher.release(["row"])
