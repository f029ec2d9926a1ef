"""What a switch should cost: the machine's own rates, applied to what the engines were asked.

The rates are measured with the same engine and one model alone: the first token of a call (catching
up, copying rows, sampling), every further one, and a decision. What a switch takes beyond their sum
is overhead: turns, hand-over, the graph, LangChain.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from langgraph_switch.config import Sampling
from langgraph_switch.engines.base import GenerateRequest, LabelRequest
from langgraph_switch.engines.transformers_engine import TransformersEngine
from switchbench.probe import Call

ROWS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192)
LACKING = (1, 24, 64, 128, 256)
CONTEXTS = (128, 480)
LONG_CONTEXTS = (1024, 2048, 4096)
_STEPS = 12
_REPEATS = 3
_LABELS = ((3,), (4,), (5,))


@dataclass(frozen=True, slots=True)
class Table:
    """Seconds on a grid; in between they are interpolated linearly, beyond the end continued."""

    axes: tuple[Sequence[float], ...]
    seconds: np.ndarray

    def at(self, *point: float) -> float:
        """Return the seconds at a point, one number per axis."""
        values = self.seconds
        for axis, place in zip(reversed(self.axes), reversed(point), strict=True):
            values = _along(axis, values, place)
        return max(float(values), 0.0)


def _along(axis: Sequence[float], values: np.ndarray, place: float) -> np.ndarray:
    """Interpolate the last dimension away."""
    if len(axis) == 1:
        return values[..., 0]
    left = int(np.clip(np.searchsorted(axis, place) - 1, 0, len(axis) - 2))
    weight = max(0.0, (place - axis[left]) / (axis[left + 1] - axis[left]))
    return values[..., left] * (1 - weight) + values[..., left + 1] * weight


@dataclass(frozen=True, slots=True)
class Rates:
    """Seconds by rows, tokens to catch up with, and context."""

    first_s: Table
    """Of a call's first token, by rows, lacking tokens and context."""
    step_s: Table
    """Of every further token of all rows, by rows and context."""
    label_s: Table
    """Of a decision, by rows, lacking tokens and context."""

    def seconds(self, call: Call) -> float:
        """Return what a call should take."""
        if not call.new_tokens:
            return self.label_s.at(call.rows, call.lacking, call.context - call.lacking)
        first_s = self.first_s.at(call.rows, call.lacking, call.context - call.lacking)
        middle = call.context + call.new_tokens / 2
        return first_s + (call.new_tokens - 1) * self.step_s.at(call.rows, middle)

    def predict(self, calls: Iterable[Call]) -> float:
        """Return what the calls should take, one after the other."""
        return sum(self.seconds(call) for call in calls)


def measure_rates(
    engine: TransformersEngine,
    *,
    max_rows: int,
    max_context: int,
    sampling: Sampling,
    masked: tuple[int, ...] = (),
) -> Rates:
    """Measure one model alone.

    Args:
        engine: Serves the model.
        max_rows: Largest batch that will be asked for.
        max_context: Tokens of the longest prefix, roughly. Long ones are measured, not continued
            from short ones: attention's part is small there, and lost in noise.
        sampling: As the switch samples.
        masked: Tokens that the switch never generates.
    """
    rows = (*tuple(n for n in ROWS if n < max_rows), max_rows)
    long = tuple(n for n in LONG_CONTEXTS if n <= max_context)
    bench = _Bench(engine, sampling, masked)
    calls = (rows, LACKING, (CONTEXTS[0], *long))
    steps = (rows, (*CONTEXTS, *long))
    return Rates(
        first_s=_table(calls, bench.first_s),
        step_s=_table(steps, bench.step_s),
        label_s=_table(calls, bench.label_s),
    )


def _table(axes: tuple[tuple[int, ...], ...], measure: Callable[..., float]) -> Table:
    seconds = [measure(*point) for point in product(*axes)]
    return Table(axes, np.array(seconds).reshape([len(axis) for axis in axes]))


class _Bench:
    """Single calls with a stop watch, rows warmed up to a context before each."""

    def __init__(
        self, engine: TransformersEngine, sampling: Sampling, masked: tuple[int, ...]
    ) -> None:
        self._engine = engine
        self._sampling = sampling
        self._masked = masked

    def first_s(self, rows: int, lacking: int, context: int) -> float:
        return self._median(rows, context, lambda: self._generate(rows, context + lacking, 1))

    def step_s(self, rows: int, context: int) -> float:
        many = self._median(rows, context, lambda: self._generate(rows, context + 1, 1 + _STEPS))
        one = self._median(rows, context, lambda: self._generate(rows, context + 1, 1))
        return (many - one) / _STEPS

    def label_s(self, rows: int, lacking: int, context: int) -> float:
        def decide() -> None:
            self._engine.label_logprobs(
                [
                    LabelRequest(row=f"{i}", prefix=_ids(i, context + lacking), labels=_LABELS)
                    for i in range(rows)
                ]
            )

        return self._median(rows, context, decide)

    def _median(self, rows: int, context: int, work: Callable[[], None]) -> float:
        taken = []
        for _ in range(_REPEATS):
            self._generate(rows, context + 1, 1)
            started = time.perf_counter()
            work()
            taken.append(time.perf_counter() - started)
            self._engine.release([f"{i}" for i in range(rows)])
        return statistics.median(taken)

    def _generate(self, rows: int, prefix: int, new_tokens: int) -> None:
        self._engine.generate(
            [
                GenerateRequest(
                    row=f"{i}",
                    prefix=_ids(i, prefix),
                    response_start=64,
                    max_new_tokens=new_tokens,
                    sampling=self._sampling,
                    seed=i,
                    masked_token_ids=self._masked,
                )
                for i in range(rows)
            ]
        )


def _ids(row: int, count: int) -> list[int]:
    """Return tokens that differ between rows, the first ones of a longer request the same."""
    return [300 + (row * 7919 + i * 104729) % 5000 for i in range(count)]
