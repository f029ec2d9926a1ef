from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from tiny_models import make_engine, random_model, switch_config

from langgraph_switch import Switch, Trace
from langgraph_switch.loop import finish_traces
from langgraph_switch.queries import trace_from_query
from langgraph_switch.switch import Draft, Writing
from langgraph_switch.switchers.base import Turn


def make_switch(temperature: float) -> Switch:
    config = switch_config(
        switcher={"kind": "lm", "candidate": "c", "sampling": {"temperature": 2.0, "top_p": 1.0}},
        sampling={"temperature": temperature},
        max_tokens=24,
        segment={"max_tokens": 4},
    )
    engines = {name: make_engine(random_model(seed=i)) for i, name in enumerate("abc")}
    return Switch(config, engines=engines)


def turns(switch: Switch, number: int = 8) -> list[Turn]:
    """Return one question under many seeds, and another one."""
    asked = [
        trace_from_query({"query": query, "seed": seed}, switch.config)
        for query in ("hello", "you there")
        for seed in range(number)
    ]
    return [Turn(trace, f"row {i}") for i, trace in enumerate(asked)]


def timeless(trace: Trace) -> Trace:
    """Return a trace without what differs from batch to batch."""
    nothing: dict[str, Any] = {"decide_s": 0.0, "generate_s": 0.0, "probabilities": None}
    nothing |= {"prefill_tokens": 0, "cached_tokens": 0}
    return replace(trace, segments=tuple(replace(one, **nothing) for one in trace.segments))


def certainties(trace: Trace) -> list[float]:
    return [p for one in trace.segments for p in one.probabilities or ()]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_traces_together_are_what_each_is_alone(temperature: float) -> None:
    switch = make_switch(temperature)
    together = finish_traces(switch, turns(switch))
    alone = [finish_traces(switch, [turn])[0] for turn in turns(switch)]
    assert list(map(timeless, together)) == list(map(timeless, alone))
    for one, other in zip(together, alone, strict=True):
        assert certainties(one) == pytest.approx(certainties(other), abs=1e-3)
    assert len({one.text for one in together}) > 2, "the seeds lead to different responses"


def test_equal_greedy_continuations_are_computed_once() -> None:
    switch = make_switch(0.0)
    written: list[int] = []
    write = switch.write_all

    def counted(writings: Sequence[Writing]) -> list[list[Draft]]:
        written.extend(len(one.turns) for one in writings)
        return write(writings)

    switch.write_all = counted  # type: ignore[method-assign]
    finished = finish_traces(switch, turns(switch))
    distinct = {
        tuple((one.speaker, one.token_ids) for one in trace.segments[: i + 1])
        for trace in finished
        for i in range(len(trace.segments))
    }
    assert sum(written) == len(distinct)
    assert sum(written) < sum(len(trace.segments) for trace in finished)
