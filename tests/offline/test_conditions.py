from __future__ import annotations

from typing import Any

import pytest
from tiny_models import switch_config

from langgraph_switch import ScriptedEngine, Switch
from langgraph_switch.config import LMSwitcherSpec
from langgraph_switch.offline.answering import Condition, EvaluationSettings, planned_conditions
from langgraph_switch.offline.conditions import (
    MAJORITY,
    ORACLE,
    RANDOM,
    ROUTING,
    TRAINED,
    UNTUNED,
    WithoutCandidate,
    alone,
    choosing_conditions,
    routed,
    solo,
    untuned,
    without,
)
from langgraph_switch.offline.responses import Response, respond
from langgraph_switch.scoring import FunctionScore
from langgraph_switch.switchers.base import Turn
from langgraph_switch.tasks import Example
from langgraph_switch.trace import Message, Trace

EXAMPLES = [Example(id=str(i), messages=(Message(role="user", content=f"q{i}"),)) for i in range(2)]
LENGTH = FunctionScore(lambda answer: float(len(answer.response)), name="length")


def switch(labels: Any = lambda _: (0.1, 0.8, 0.1), **fields: Any) -> Switch:
    config = switch_config(max_tokens=30, switcher={"kind": "lm", "candidate": "c"}, **fields)
    engines = {
        name: ScriptedEngine(lambda _, n=name: n * 9, labels=labels if name == "c" else ())
        for name in "abc"
    }
    return Switch(config, engines=engines)


def text(one: Switch) -> str:
    return respond(one, EXAMPLES[:1], LENGTH, seed=0)[0].trace.text


def planned(one: Switch) -> dict[str, Condition]:
    return planned_conditions(one, EvaluationSettings(resample=False))


def test_every_condition_is_there_and_singles_come_first() -> None:
    found = list(planned(switch()))
    assert found[:3] == [alone(name) for name in "abc"]
    assert found[3:7] == [RANDOM, UNTUNED, TRAINED, ROUTING]
    assert found[7:] == [without(name) for name in "abc"]
    random = Switch(switch_config(), engines={name: ScriptedEngine() for name in "abc"})
    assert list(planned(random)) == [*found[:3], RANDOM]


@pytest.mark.parametrize("eos", ["mask", "end_segment", "end_response"])
def test_alone_a_candidate_writes_all_and_ends_by_its_own_eos(eos: str) -> None:
    config = switch_config(max_tokens=30)
    first = config.candidates[0].model_copy(update={"eos": eos})
    config = config.with_changes(candidates=(first, *config.candidates[1:]))
    engines = {name: ScriptedEngine(lambda _, n=name: n * 9) for name in "abc"}
    (response,) = respond(solo(Switch(config, engines=engines), "a"), EXAMPLES[:1], LENGTH, seed=0)
    assert response.trace.text == "a" * 9
    assert response.trace.finish_reason == "eos"
    assert len(response.trace.segments) == 1


def test_without_a_candidate_it_is_never_chosen_but_anchors_still() -> None:
    whole = switch()
    assert "b" in text(whole)
    assert "b" not in text(whole.with_switcher(WithoutCandidate(whole.switcher, 1)))
    anchored = text(whole.with_switcher(WithoutCandidate(whole.switcher, 2)))
    assert anchored.startswith("c")
    assert anchored.endswith("c")


def test_routing_asks_once_and_whom_it_names_writes_the_rest() -> None:
    whole = switch()
    once = routed(whole)
    (response,) = respond(once, EXAMPLES[:1], LENGTH, seed=0)
    assert [one.speaker for one in response.trace.segments] == ["c", "b", "b", "b", "b"]
    engine = whole.candidates["c"].engine
    assert isinstance(engine, ScriptedEngine)
    asked = [call for call in engine.calls if call and hasattr(call[0], "labels")]
    assert len(asked) == 1


def test_untuned_asks_the_anchor_itself() -> None:
    spec = untuned(switch()).config.switcher
    assert isinstance(spec, LMSwitcherSpec)
    assert (spec.candidate, spec.adapter) == ("c", None)
    trace = Trace(messages=EXAMPLES[0].messages, trace_id="t", seed=0, max_tokens=9)
    (found,) = untuned(switch()).switcher.probabilities([Turn(trace, "row")])
    assert found == pytest.approx((0.1, 0.8, 0.1))


def response(answer: str | None, score: float | None) -> Response:
    trace = Trace(messages=EXAMPLES[0].messages, trace_id="t", seed=0, max_tokens=9)
    return Response(example_id="0", trace=trace, score=score, answer=answer)


def chosen(*rows: tuple[str | None, float | None]) -> dict[str, Response]:
    singles = {alone(name): [response(*row)] for name, row in zip("abc", rows, strict=True)}
    return {name: found[0] for name, found in choosing_conditions(switch().config, singles)}


def test_the_majority_wins_and_the_anchor_breaks_ties() -> None:
    assert chosen(("1", 0), ("1", 0), ("2", 1))[MAJORITY].answer == "1"
    assert chosen(("1", 0), ("2", 0), ("3", 1))[MAJORITY].answer == "3"
    assert chosen((None, 0), ("2", 0), (None, 1))[MAJORITY].answer == "2"
    assert MAJORITY not in chosen((None, 0), (None, 0), (None, 1))


def test_the_oracle_takes_the_best_and_failed_scores_are_worst() -> None:
    assert chosen(("1", 0.2), ("2", 0.9), ("3", 0.5))[ORACLE].answer == "2"
    assert chosen(("1", None), ("2", 0.0), ("3", None))[ORACLE].answer == "2"
