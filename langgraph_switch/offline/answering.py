"""What an evaluation's conditions answer, batch by batch: here, or as units of work elsewhere.

Knows nothing of statistics, reports or folders.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

from langgraph.graph import END, START, StateGraph
from langgraph.types import StreamWriter
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from langgraph_switch.config import RandomSwitcherSpec, SwitchConfig
from langgraph_switch.offline.conditions import TRAINED, MakeSwitch, alone, writing_conditions
from langgraph_switch.offline.responses import respond
from langgraph_switch.offline.workers import Event
from langgraph_switch.scoring import Score
from langgraph_switch.switch import Switch
from langgraph_switch.switchers.simple import RandomSwitcher
from langgraph_switch.tasks import Example

FIRST, SECOND = "first sample of", "second sample of"

Condition: TypeAlias = tuple[MakeSwitch, int, float | None]
"""Who answers, with which seed, at which temperature (None: the switch's own)."""


class EvaluationSettings(BaseModel):
    """What an evaluation asks and compares."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    questions: int | None = Field(default=None, ge=1)
    """How many of the test split's questions; all by default."""
    seed: int = Field(default=0, ge=0)
    """Seed of every draw, the same for every condition."""
    leave_one_out: bool = True
    """Whether the trained switcher is also tried without each candidate."""
    resample: bool = True
    """Whether every single and the switch answer again at a temperature, to tell what switching
    solves beyond the singles from what another sample of them would solve by chance."""
    resample_temperature: float = Field(default=0.7, gt=0)
    batch_questions: int = Field(default=64, ge=1)
    """Questions in progress at the same time, and per stored batch."""


def planned_conditions(
    switch: Switch | SwitchConfig, settings: EvaluationSettings
) -> dict[str, Condition]:
    """Return every condition that writes, by name; a configuration's models load on first use."""
    config = switch if isinstance(switch, SwitchConfig) else switch.config
    writing = writing_conditions(
        config,
        cache(lambda: switch if isinstance(switch, Switch) else Switch(config)),
        is_trained=_is_trained(switch),
        leave_one_out=settings.leave_one_out,
    )
    found: dict[str, Condition] = {
        name: (make, settings.seed, None) for name, make in writing.items()
    }
    if settings.resample and TRAINED in writing:
        hot = settings.resample_temperature
        singles = [alone(name) for name in config.names]
        for name in (*singles, TRAINED):
            found[f"{FIRST} {name}"] = (writing[name], settings.seed + 1, hot)
        for name in singles:
            found[f"{SECOND} {name}"] = (writing[name], settings.seed + 2, hot)
    return found


def _is_trained(switch: Switch | SwitchConfig) -> bool:
    if isinstance(switch, Switch):
        return not isinstance(switch.switcher, RandomSwitcher)
    return not isinstance(switch.switcher, RandomSwitcherSpec)


def batch_of(
    examples: Sequence[Example], settings: EvaluationSettings, number: int
) -> Sequence[Example]:
    """Return the questions of a batch."""
    size = settings.batch_questions
    return examples[number * size : (number + 1) * size]


def answer(
    condition: Condition,
    name: str,
    examples: Sequence[Example],
    score: Score,
    tell: Callable[[Event], None],
) -> list[dict[str, Any]]:
    """Let a condition answer questions; return a row for each and tell of each that is done."""
    make, seed, temperature = condition
    responses = respond(
        make(),
        examples,
        score,
        seed=seed,
        temperature=temperature,
        on_end=lambda n: tell({"type": "answered", "condition": name, "responses": n}),
    )
    return [
        {
            "query_id": one.example_id,
            "condition": name,
            "text": one.trace.text,
            "score": one.score,
            "response": json.dumps(one.to_json(), ensure_ascii=False),
        }
        for one in responses
    ]


class _Batch(TypedDict):
    condition: str
    number: int


@dataclass(frozen=True, kw_only=True)
class AnsweringWork:
    """Batches as units of work elsewhere: their rows come back in the event `stored`."""

    config: SwitchConfig
    settings: EvaluationSettings
    examples: Sequence[Example]
    score: Score

    def start(self) -> Callable[[tuple[str, int]], Iterator[Event]]:
        """Plan the conditions; return what answers a batch: its condition and number."""
        conditions = planned_conditions(self.config, self.settings)

        def respond_to(state: _Batch, *, writer: StreamWriter) -> dict[str, Any]:
            name = state["condition"]
            examples = batch_of(self.examples, self.settings, state["number"])
            rows = answer(conditions[name], name, examples, self.score, writer)
            writer({"type": "stored", "rows": rows})
            return {}

        graph = StateGraph(_Batch)
        graph.add_node("respond", respond_to)
        graph.add_edge(START, "respond")
        graph.add_edge("respond", END)
        answering = graph.compile(name="answer")

        def batch_events(unit: tuple[str, int]) -> Iterator[Event]:
            condition, number = unit
            begin = _Batch(condition=condition, number=number)
            return answering.stream(begin, stream_mode="custom")

        return batch_events
