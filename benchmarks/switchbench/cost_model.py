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

import numpy as np

from langgraph_switch.config import Sampling
from langgraph_switch.engines.base import GenerateRequest, LabelRequest
from langgraph_switch.engines.transformers_engine import TransformersEngine
from switchbench.probe import Call

ROWS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192)
LACKING = (1, 24, 64, 128, 256)
CONTEXTS = (128, 480)
_STEPS = 12
_REPEATS = 3
_LABELS = ((3,), (4,), (5,))


@dataclass(frozen=True, slots=True)
class Rates:
    """Seconds by rows, tokens and context; in between they are interpolated."""

    rows: tuple[int, ...]
    first_s: np.ndarray
    """Of a call's first token, [rows, lacking]."""
    step_s: np.ndarray
    """Of every further token of all rows, [rows, contexts]."""
    label_s: np.ndarray
    """Of a decision, [rows, lacking]."""

    def seconds(self, call: Call) -> float:
        """Return what a call should take."""
        if not call.new_tokens:
            return self._at(self.label_s, LACKING, call.rows, call.lacking)
        middle = call.context + call.new_tokens / 2
        step_s = self._at(self.step_s, CONTEXTS, call.rows, middle)
        first_s = self._at(self.first_s, LACKING, call.rows, call.lacking)
        return first_s + (call.new_tokens - 1) * step_s

    def predict(self, calls: Iterable[Call]) -> float:
        """Return what the calls should take, one after the other."""
        return sum(self.seconds(call) for call in calls)

    def _at(self, table: np.ndarray, columns: Sequence[int], rows: float, column: float) -> float:
        """Interpolate linearly in both directions; beyond the last column go on as before it."""
        low, high = columns[-2:]
        by_row = []
        for line in table:
            value = np.interp(column, columns, line)
            if column > high:
                value += (column - high) * (line[-1] - line[-2]) / (high - low)
            by_row.append(max(float(value), 0.0))
        return float(np.interp(rows, self.rows, by_row))


def measure_rates(
    engine: TransformersEngine, *, max_rows: int, sampling: Sampling, masked: tuple[int, ...] = ()
) -> Rates:
    """Measure one model alone.

    Args:
        engine: Serves the model.
        max_rows: Largest batch that will be asked for.
        sampling: As the switch samples.
        masked: Tokens that the switch never generates.
    """
    rows = (*tuple(n for n in ROWS if n < max_rows), max_rows)
    bench = _Bench(engine, sampling, masked)
    first = np.array([[bench.first_s(r, n) for n in LACKING] for r in rows])
    step = np.array([[bench.step_s(r, c) for c in CONTEXTS] for r in rows])
    label = np.array([[bench.label_s(r, n) for n in LACKING] for r in rows])
    return Rates(rows, first, step, label)


class _Bench:
    """Single calls with a stop watch, rows warmed up to a context before each."""

    def __init__(
        self, engine: TransformersEngine, sampling: Sampling, masked: tuple[int, ...]
    ) -> None:
        self._engine = engine
        self._sampling = sampling
        self._masked = masked

    def first_s(self, rows: int, lacking: int) -> float:
        context = CONTEXTS[0]
        return self._median(rows, context, lambda: self._generate(rows, context + lacking, 1))

    def step_s(self, rows: int, context: int) -> float:
        many = self._median(rows, context, lambda: self._generate(rows, context + 1, 1 + _STEPS))
        one = self._median(rows, context, lambda: self._generate(rows, context + 1, 1))
        return (many - one) / _STEPS

    def label_s(self, rows: int, lacking: int) -> float:
        context = CONTEXTS[0]

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
