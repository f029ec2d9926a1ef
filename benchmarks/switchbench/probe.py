"""Where the time of a switch goes: stop watches around engine calls and forward passes.

They cost a few microseconds a token, which is counted against the switch. Knows nothing of what
is compared with what.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from langgraph_switch.engines.base import (
    Continuation,
    GenerateRequest,
    LabelRequest,
    NewToken,
    OnToken,
)
from langgraph_switch.engines.tokenizer import Tokenizer
from langgraph_switch.engines.transformers_engine import TransformersEngine


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

    def __init__(self, engine: TransformersEngine, module: torch.nn.Module, busy: BusyTime) -> None:
        self._engine = engine
        self._busy = busy
        self._is_generating = False
        self._num_passes = 0
        self._pass_started = 0.0
        self.clock = Clock()
        module.register_forward_pre_hook(self._before_pass)
        module.register_forward_hook(self._after_pass)

    def reset(self) -> None:
        """Set every figure to zero."""
        self.clock = Clock()

    @property
    def name(self) -> str:
        """See `Engine`."""
        return self._engine.name

    @property
    def tokenizer(self) -> Tokenizer:
        """See `Engine`."""
        return self._engine.tokenizer

    @property
    def vocab_size(self) -> int:
        """See `Engine`."""
        return self._engine.vocab_size

    @property
    def max_context_tokens(self) -> int:
        """See `Engine`."""
        return self._engine.max_context_tokens

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """See `Engine`."""
        return self._engine.eos_token_ids

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

        self._is_generating, self._num_passes = True, 0
        started = time.perf_counter()
        with self._busy.work():
            written = self._engine.generate(requests, None if on_token is None else timed_on_token)
        self.clock.listening_s += listening_s
        self.clock.generate_s += time.perf_counter() - started - listening_s
        self._is_generating = False
        self.clock.peak_kv_bytes = max(self.clock.peak_kv_bytes, self._engine.kv_bytes)
        self.clock.prefill_tokens += sum(one.prefill_tokens for one in written)
        self.clock.cached_tokens += sum(one.cached_tokens for one in written)
        return written

    def label_logprobs(self, requests: Sequence[LabelRequest]) -> list[tuple[float, ...]]:
        """See `Engine`."""
        started = time.perf_counter()
        with self._busy.work():
            scores = self._engine.label_logprobs(requests)
        self.clock.decide_s += time.perf_counter() - started
        self.clock.peak_kv_bytes = max(self.clock.peak_kv_bytes, self._engine.kv_bytes)
        return scores

    def release(self, rows: Iterable[str]) -> None:
        """See `Engine`."""
        self._engine.release(rows)

    def _before_pass(self, *_: Any) -> None:
        self._pass_started = time.perf_counter()

    def _after_pass(self, *_: Any) -> None:
        if not self._is_generating:
            return
        seconds = time.perf_counter() - self._pass_started
        self._num_passes += 1
        if self._num_passes == 1:
            self.clock.catch_up_s += seconds
        else:
            self.clock.decode_s += seconds
