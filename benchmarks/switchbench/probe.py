"""Where the time of a switch goes: stop watches around engine calls and forward passes.

They cost a few microseconds a token, which is counted against the switch. Knows nothing of what
is compared with what.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch import Tensor

from langgraph_switch.engines.base import (
    Continuation,
    GenerateRequest,
    LabelRequest,
    NewToken,
    OnToken,
)
from langgraph_switch.engines.batch import RowBatch, TreeNode
from langgraph_switch.engines.tokenizer import Tokenizer
from langgraph_switch.engines.transformers_engine import TransformersEngine


@dataclass(frozen=True, slots=True)
class Call:
    """What one call of an engine had to do."""

    rows: int
    lacking: float
    """Tokens that a row had to catch up with, on average."""
    context: float
    """Tokens of a row's prefix, on average."""
    new_tokens: int = 0
    """Tokens that were generated per row; 0 for a decision."""


@dataclass(slots=True)
class Clock:
    """Seconds of one engine."""

    generate_s: float = 0.0
    """In `generate`, without what listeners of tokens did."""
    listening_s: float = 0.0
    """In `generate`, for what listeners of tokens did: the graph's part."""
    listening_cpu_s: float = 0.0
    decide_s: float = 0.0
    """In `label_logprobs`."""
    catch_up_s: float = 0.0
    """In `generate`'s forward passes over prefixes."""
    decode_s: float = 0.0
    """In `generate`'s forward passes over one new token per row."""
    peak_kv_bytes: int = 0
    prefill_tokens: int = 0
    cached_tokens: int = 0
    calls: list[Call] = field(default_factory=list)


class PassTimes:
    """Seconds in catching up and in decoding passes, of whoever is at work. One at a time."""

    catch_up_s = 0.0
    decode_s = 0.0

    @classmethod
    def install(cls) -> None:
        """Time every pass of every batch from now on."""
        prefill, step = RowBatch.prefill, RowBatch.step

        def timed_prefill(batch: RowBatch, tree: Sequence[TreeNode] = ()) -> Tensor:
            started = time.perf_counter()
            logits = prefill(batch, tree)
            cls.catch_up_s += time.perf_counter() - started
            return logits

        def timed_step(batch: RowBatch, next_ids: Tensor) -> Tensor:
            started = time.perf_counter()
            logits = step(batch, next_ids)
            cls.decode_s += time.perf_counter() - started
            return logits

        RowBatch.prefill = timed_prefill  # type: ignore[method-assign,assignment]
        RowBatch.step = timed_step  # type: ignore[method-assign,assignment]


PassTimes.install()


class BusyTime:
    """Seconds in which at least one of several engines was at work."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Set the figure to zero."""
        self.wall_s = self.cpu_s = 0.0
        self._num_working = 0
        self._started = (0.0, 0.0)

    @contextmanager
    def work(self) -> Iterator[None]:
        """Count the block's time, once for all blocks that run at the same time."""
        with self._lock:
            if self._num_working == 0:
                self._started = time.perf_counter(), time.process_time()
            self._num_working += 1
        try:
            yield
        finally:
            with self._lock:
                self._num_working -= 1
                if self._num_working == 0:
                    self.wall_s += time.perf_counter() - self._started[0]
                    self.cpu_s += time.process_time() - self._started[1]


class TimedEngine:
    """A `TransformersEngine` with a stop watch."""

    def __init__(self, engine: TransformersEngine, busy: BusyTime) -> None:
        self.engine = engine
        self._busy = busy
        self.reset()

    def reset(self) -> None:
        """Set every figure to zero."""
        self.clock = Clock()
        self._read: dict[str, Sequence[int]] = {}
        self.read_tokens: list[int] = []

    @property
    def name(self) -> str:
        """See `Engine`."""
        return self.engine.name

    @property
    def tokenizer(self) -> Tokenizer:
        """See `Engine`."""
        return self.engine.tokenizer

    @property
    def vocab_size(self) -> int:
        """See `Engine`."""
        return self.engine.vocab_size

    @property
    def max_context_tokens(self) -> int:
        """See `Engine`."""
        return self.engine.max_context_tokens

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """See `Engine`."""
        return self.engine.eos_token_ids

    def generate(
        self, requests: Sequence[GenerateRequest], on_token: OnToken | None = None
    ) -> list[Continuation]:
        """See `Engine`."""
        listening_s = 0.0

        def timed_on_token(position: int, token: NewToken) -> None:
            nonlocal listening_s
            started, started_cpu = time.perf_counter(), time.thread_time()
            if on_token is not None:
                on_token(position, token)
            listening_s += time.perf_counter() - started
            self.clock.listening_cpu_s += time.thread_time() - started_cpu

        passes = PassTimes.catch_up_s, PassTimes.decode_s
        started = time.perf_counter()
        with self._busy.work():
            written = self.engine.generate(requests, None if on_token is None else timed_on_token)
        self.clock.listening_s += listening_s
        self.clock.generate_s += time.perf_counter() - started - listening_s
        self.clock.catch_up_s += PassTimes.catch_up_s - passes[0]
        self.clock.decode_s += PassTimes.decode_s - passes[1]
        self.clock.calls.append(
            Call(
                rows=len(requests),
                lacking=_mean([one.prefill_tokens for one in written]),
                context=_mean([len(request.prefix) for request in requests]),
                new_tokens=max(len(one.token_ids) for one in written),
            )
        )
        self.clock.peak_kv_bytes = max(self.clock.peak_kv_bytes, self.engine.kv_bytes)
        self.clock.prefill_tokens += sum(one.prefill_tokens for one in written)
        self.clock.cached_tokens += sum(one.cached_tokens for one in written)
        return written

    def label_logprobs(self, requests: Sequence[LabelRequest]) -> list[tuple[float, ...]]:
        """See `Engine`."""
        started = time.perf_counter()
        with self._busy.work():
            scores = self.engine.label_logprobs(requests)
        self.clock.decide_s += time.perf_counter() - started
        self.clock.peak_kv_bytes = max(self.clock.peak_kv_bytes, self.engine.kv_bytes)
        lacking = [_num_new(self._read.get(one.row, ()), one.prefix) for one in requests]
        self._read.update((one.row, one.prefix) for one in requests)
        context = _mean([len(one.prefix) for one in requests])
        self.clock.calls.append(Call(len(requests), _mean(lacking), context))
        return scores

    def release(self, rows: Iterable[str]) -> None:
        """See `Engine`."""
        rows = list(rows)
        self.engine.release(rows)
        for row in rows:
            if row in self._read:
                self.read_tokens.append(len(self._read.pop(row)))


def _mean(values: Sequence[int]) -> float:
    return sum(values) / len(values)


def _num_new(known: Sequence[int], prefix: Sequence[int]) -> int:
    pairs = enumerate(zip(known, prefix, strict=False))
    shared = next((i for i, (a, b) in pairs if a != b), min(len(known), len(prefix)))
    return len(prefix) - min(shared, len(prefix) - 1)
