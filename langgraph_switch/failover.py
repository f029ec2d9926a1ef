"""When an engine fails: try again, remember who is down, and hand back what was shown.

One loop of tries per segment (tenacity); whoever is given up is on cooldown for every run of the
switch. Knows nothing of who goes on instead: that follows from the trace (`floor`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_any,
    stop_before_delay,
    wait_random_exponential,
)
from tenacity.stop import stop_base

from langgraph_switch.config import FailoverSpec
from langgraph_switch.engines.base import Continuation, GenerateRequest, OnToken, Writer
from langgraph_switch.engines.resumable import ResumableBatch
from langgraph_switch.errors import EngineError

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class Health:
    """Who has failed lately, for every run of a switch at once. Thread-safe."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with everybody well.

        Args:
            clock: Seconds that never go back.
        """
        self._clock = clock
        self._lock = threading.Lock()
        self._cool_until: dict[str, float] = {}
        self._errors: dict[str, EngineError] = {}
        self._broken_rows: set[str] = set()

    def fail(self, name: str, error: EngineError, *, cooldown_s: float) -> None:
        """Leave somebody alone for a while: at least as long as a server has asked for."""
        seconds = max(cooldown_s, error.retry_after_s or 0.0)
        with self._lock:
            self._cool_until[name] = self._clock() + seconds
            self._errors[name] = error

    def recover(self, name: str) -> None:
        """Note that somebody works."""
        if name in self._errors:
            with self._lock:
                self._cool_until.pop(name, None)
                self._errors.pop(name, None)

    def is_cooling(self, name: str) -> bool:
        """Return whether somebody is to be left alone."""
        return self._clock() < self._cool_until.get(name, 0.0)

    def cooling(self, names: Iterable[str]) -> frozenset[str]:
        """Return who of these is to be left alone."""
        if not self._errors:
            return frozenset()
        return frozenset(name for name in names if self.is_cooling(name))

    def errors(self, names: Iterable[str]) -> dict[str, EngineError]:
        """Return the last errors of those who have not recovered since."""
        with self._lock:
            return {name: self._errors[name] for name in names if name in self._errors}

    def mark_broken(self, row: str) -> None:
        """Note that a trace's segment failed in this run."""
        with self._lock:
            self._broken_rows.add(row)

    def forget_broken(self, rows: Iterable[str]) -> bool:
        """Forget such notes; return whether there were any."""
        if not self._broken_rows:
            return False
        with self._lock:
            found = self._broken_rows.intersection(rows)
            self._broken_rows -= found
        return bool(found)


class Failover:
    """Calls engines by the rules of a `failover` section."""

    def __init__(
        self,
        spec: FailoverSpec,
        health: Health,
        *,
        hands_over: bool = True,
    ) -> None:
        """Settle the rules.

        Args:
            spec: The rules.
            health: Who is down, shared by all who call the same engines.
            hands_over: Whether somebody else may go on; otherwise the last error is raised.
        """
        self._spec = spec
        self._health = health
        self._hands_over = hands_over

    def generate(
        self,
        name: str,
        engine: Writer,
        requests: Sequence[GenerateRequest],
        on_token: OnToken | None = None,
        *,
        timeout_s: float,
    ) -> list[Continuation]:
        """Return every request's continuation; `failed` ones hold what was shown of them.

        Args:
            name: Whose engine it is.
            engine: The engine.
            requests: What it shall write.
            on_token: Hears of every token once.
            timeout_s: Seconds for all tries.

        Raises:
            EngineError: A request failed to the end, and nobody else may go on.
        """
        batch = ResumableBatch(requests, engine.tokenizer, on_token)
        tries = _Tries(batch, engine, timeout_s=timeout_s)
        most = self._most_attempts(name)
        try:
            for attempt in self._retrying(name, most, timeout_s):
                with attempt:
                    tries.send(is_last=attempt.retry_state.attempt_number >= most)
        except EngineError as err:
            if not err.retryable:  # Then it is nothing that `send` raises.
                raise
        if error := tries.error:
            if not self._hands_over:
                raise error
            self._note(name, error, is_alone=len(batch.pending) == len(requests))
        else:
            self._health.recover(name)
        return [batch.result(row) for row in range(len(requests))]

    def ask(self, name: str, work: Callable[[], _T]) -> _T | None:
        """Return what work returns; None if it fails to the end, or has failed lately.

        Raises:
            EngineError: It failed, and nobody else may decide.
        """
        may_fail = self._hands_over and self._spec.without_switcher != "error"
        if may_fail and self._health.is_cooling(name):
            return None
        retrying = self._retrying(name, self._most_attempts(name), self._spec.timeout_s)
        try:
            found = retrying(work)
        except EngineError as err:
            if not may_fail:
                raise
            self._note(name, err, is_alone=True)
            return None
        self._health.recover(name)
        return found

    def _most_attempts(self, name: str) -> int:
        """Return how often to call; who is asked in spite of a cooldown is asked once."""
        return 1 if self._health.is_cooling(name) else self._spec.max_attempts

    def _retrying(self, name: str, most: int, timeout_s: float) -> Retrying:
        longest = self._spec.max_wait_s
        jittered = wait_random_exponential(multiplier=self._spec.initial_wait_s, max=longest)

        def wait(state: RetryCallState) -> float:
            return max(jittered(state), _asked_wait_s(state))

        def tell(state: RetryCallState) -> None:
            _log.info("%s: trying again in %.1f s: %s", name, state.upcoming_sleep, _error(state))

        return Retrying(
            retry=retry_if_exception(lambda e: isinstance(e, EngineError) and e.retryable),
            stop=stop_any(
                stop_after_attempt(most), stop_before_delay(timeout_s), _AsksTooMuch(longest)
            ),
            wait=wait,
            sleep=time.sleep,
            before_sleep=tell,
            reraise=True,
        )

    def _note(self, name: str, error: EngineError, *, is_alone: bool) -> None:
        """Remember a failure; who still serves others, or would fail again, needs no cooldown."""
        _log.warning("%s failed, somebody else goes on: %s", name, error.message)
        is_down = error.retryable and is_alone
        self._health.fail(name, error, cooldown_s=self._spec.cooldown_s if is_down else 0.0)


class _Tries:
    """The calls for one batch."""

    def __init__(self, batch: ResumableBatch, engine: Writer, *, timeout_s: float) -> None:
        self._batch = batch
        self._engine = engine
        self._deadline = time.monotonic() + timeout_s
        self._errors: dict[int, EngineError] = {}

    @property
    def error(self) -> EngineError | None:
        """The first request's that has failed to the end, if any."""
        return next(iter(self._errors.values()), None)

    def send(self, *, is_last: bool) -> None:
        """Call the engine for what is missing and may still succeed.

        Raises:
            EngineError: An error that may pass: another call is worth it.
        """
        was_split = self._batch.is_split
        self._send()
        first = self.error
        if first and self._batch.is_split and not was_split:  # Whose fault was it?
            is_free = first.retry_after_s is None
            if is_free and (is_last or not first.retryable):
                self._errors.clear()
                self._send()
        passing = [error for error in self._errors.values() if error.retryable]
        if passing:
            raise max(passing, key=lambda error: error.retry_after_s or 0.0)

    def _send(self) -> None:
        rows = [
            row
            for row in self._batch.pending
            if row not in self._errors or self._errors[row].retryable
        ]
        for row in rows:
            self._errors.pop(row, None)
        left_s = max(0.001, self._deadline - time.monotonic())
        self._errors |= self._batch.send(self._engine, rows, timeout_s=left_s)


class _AsksTooMuch(stop_base):
    """Ends the tries where a server asks for a longer wait than somebody else needs."""

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s

    def __call__(self, retry_state: RetryCallState) -> bool:
        return _asked_wait_s(retry_state) > self._longest_s


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _asked_wait_s(state: RetryCallState) -> float:
    error = _error(state)
    return (error.retry_after_s or 0.0) if isinstance(error, EngineError) else 0.0
