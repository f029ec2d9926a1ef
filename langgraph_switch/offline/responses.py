"""Many examples answered and scored: what evaluation compares and distillation learns from.

Knows nothing of conditions, statistics or files.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from langgraph_switch.loop import finish_traces
from langgraph_switch.queries import trace_from_query
from langgraph_switch.scoring import Score, score_answers
from langgraph_switch.seeds import derive_seed
from langgraph_switch.switch import Switch
from langgraph_switch.switchers.base import Turn
from langgraph_switch.tasks import Example
from langgraph_switch.trace import Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One example's response and its score."""

    example_id: str
    trace: Trace
    score: float | None
    """None where it could not be judged."""
    error: str | None = None
    """Why there is no score."""
    answer: str | None = None
    """What the score read as the final answer, where it reads one."""
    seconds: float = 0.0
    """Its share of the time of the batch that it was written in."""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return fields | {"trace": self.trace.to_json()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Rebuild a response from `to_json`'s output."""
        return cls(**(data | {"trace": Trace.from_json(data["trace"])}))


def respond(
    switch: Switch,
    examples: Sequence[Example],
    score: Score,
    *,
    seed: int,
    temperature: float | None = None,
    on_end: Callable[[int], None] | None = None,
) -> list[Response]:
    """Answer examples and score the answers.

    Every condition that is given the same seed draws from the same random numbers.

    Args:
        switch: Who answers.
        examples: What is asked; their ids name the traces.
        score: Judges the responses.
        seed: Seed of every draw.
        temperature: Overrides every candidate's.
        on_end: Called with 1 for each finished response.

    Returns:
        One response per example, in order.

    Raises:
        SwitchError: A question does not fit, an engine fails, or the score itself cannot work.
    """
    traces = [fresh_trace(switch, one, seed=seed, temperature=temperature) for one in examples]
    rows = [f"respond/{seed}/{one.id}" for one in examples]
    started = time.perf_counter()
    finished = finish_traces(
        switch.without_hand_over(),
        [Turn(trace, row) for trace, row in zip(traces, rows, strict=True)],
        on_end=None if on_end is None else lambda *_: on_end(1),
    )
    seconds = (time.perf_counter() - started) / max(1, len(examples))
    answers = [one.answer(trace.text) for one, trace in zip(examples, finished, strict=True)]
    return [
        Response(
            example_id=example.id,
            trace=trace,
            score=result.value,
            error=result.error,
            answer=result.answer,
            seconds=seconds,
        )
        for example, trace, result in zip(
            examples, finished, score_answers(score, answers), strict=True
        )
    ]


def fresh_trace(
    switch: Switch, example: Example, *, seed: int, temperature: float | None = None
) -> Trace:
    """Return an example's trace with nothing written yet.

    Raises:
        SwitchError: It cannot be answered by this switch.
    """
    query = example.to_query() | {
        "seed": derive_seed(seed, example.id, 0, "example"),
        "trace_id": example.id,
        "temperature": temperature,
    }
    trace = trace_from_query(query, switch.config)
    switch.check(trace)
    return trace
