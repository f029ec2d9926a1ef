"""Wrappers around a switcher: what they change, and that nothing else changes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest

from langgraph_switch import ScriptedEngine, Switch, SwitchConfig, SwitchLLM
from langgraph_switch.errors import ConfigError
from langgraph_switch.switchers.base import Turn
from langgraph_switch.switchers.policies import (
    SteadySwitcher,
    WithBudgets,
    WithPriors,
    with_policy,
)
from langgraph_switch.switchers.simple import RandomSwitcher
from langgraph_switch.trace import Message, Segment, Trace

NAMES = ("pretrained", "finetuned", "aligned")


def turn(*written: tuple[str, int], max_tokens: int = 100) -> Turn:
    segments = tuple(
        Segment(
            speaker=speaker, text="x" * size, token_ids=(1,) * size, tokenizer="t",
            decided_by="switcher", finish_reason="length",
        )
        for speaker, size in written
    )  # fmt: skip
    messages = (Message(role="user", content="q"),)
    trace = Trace(messages=messages, trace_id="t", seed=0, max_tokens=max_tokens, segments=segments)
    return Turn(trace, "row")


def given(*probabilities: float) -> RandomSwitcher:
    return RandomSwitcher(NAMES, dict(zip(NAMES, probabilities, strict=True)))


def asked(switcher: Any, *turns: Turn) -> list[tuple[float, ...]]:
    found: list[tuple[float, ...]] = switcher.probabilities(turns)
    return found


def close(found: Sequence[float], *expected: float) -> bool:
    return found == pytest.approx(expected)


def test_priors_are_added_to_logits() -> None:
    priced = WithPriors(given(0.5, 0.25, 0.25), NAMES, {"pretrained": -math.log(2)})
    assert close(asked(priced, turn())[0], 1 / 3, 1 / 3, 1 / 3)
    never = WithPriors(given(1, 0, 0), NAMES, {"aligned": 9.0})
    assert close(asked(never, turn())[0], 1, 0, 0)


def test_budgets_bar_whoever_would_write_too_much() -> None:
    switcher = WithBudgets(given(0.6, 0.2, 0.2), NAMES, {"pretrained": 0.3}, segment_tokens=10)
    fresh, early, late = asked(
        switcher,
        turn(),
        turn(("aligned", 10)),
        turn(("aligned", 30), ("pretrained", 5)),
    )
    assert close(fresh, 0, 0.5, 0.5)
    assert close(early, 0, 0.5, 0.5)
    assert close(late, 0, 0.5, 0.5)
    allowed = asked(switcher, turn(("aligned", 24)))[0]
    assert close(allowed, 0.6, 0.2, 0.2)


def test_nobody_left_means_anybody() -> None:
    switcher = WithBudgets(given(1, 0, 0), NAMES, {"pretrained": 0.0}, segment_tokens=10)
    assert asked(switcher, turn())[0] == (0, 0, 0)


def test_a_steady_speaker_keeps_the_floor() -> None:
    switcher = SteadySwitcher(given(0.5, 0.3, 0.2), NAMES, keep_above=0.25)
    assert asked(switcher, turn())[0] == (0.5, 0.3, 0.2)
    assert asked(switcher, turn(("finetuned", 3)))[0] == (0, 1, 0)
    assert asked(switcher, turn(("aligned", 3)))[0] == (0.5, 0.3, 0.2)


def config(**changes: Any) -> SwitchConfig:
    candidates = [{"name": name, "model": "none", "prompt": {"kind": "plain"}} for name in NAMES]
    return SwitchConfig.from_dict({"candidates": candidates, "seed": 0} | changes)


def test_without_a_policy_the_switcher_is_untouched() -> None:
    random = RandomSwitcher(NAMES)
    assert with_policy(random, config()) is random
    assert with_policy(random, config(policy={"priors": {"aligned": 1}})) is not random


def test_a_budget_holds_over_whole_responses() -> None:
    engines = {
        name: ScriptedEngine(lambda _: "some words " * 9, eos_token_ids=()) for name in NAMES
    }
    rules = config(
        segment={"max_tokens": 10}, max_tokens=200, policy={"budgets": {"pretrained": 0.25}}
    )
    llm = SwitchLLM(config=rules, engines=engines)
    result = llm.generate([f"question {number}" for number in range(8)])
    for [generation] in result.generations:
        assert generation.generation_info is not None
        counts = generation.generation_info["usage"]["output_tokens_by_candidate"]
        assert counts.get("pretrained", 0) <= 0.25 * sum(counts.values())


def test_a_policy_names_candidates() -> None:
    with pytest.raises(ConfigError, match=r"policy\.budgets: no candidate is named 'base'"):
        config(policy={"budgets": {"base": 0.3}})
    with pytest.raises(ConfigError):
        config(policy={"budgets": {"aligned": 1.3}})


def test_a_switcher_of_ones_own_is_wrapped_too() -> None:
    engines = {name: ScriptedEngine([]) for name in NAMES}
    rules = config(policy={"keep_floor_above": 0.5})
    switch = Switch(rules, engines=engines, switcher=given(1, 1, 1))
    assert isinstance(switch.switcher, SteadySwitcher)
