"""`ReplicatedEngine`: several engines with the same model as one.

A trace's row stays on one replica, whose cache knows its prefix; where that one fails or is on
cooldown another goes on from what was shown. Each replica is called at most once per call: waiting
and trying again is left to whoever calls. Knows nothing of candidates or switching.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

from langgraph_switch.engines.base import (
    Continuation,
    Engine,
    GenerateRequest,
    LabelRequest,
    NewToken,
    OnToken,
    all_written,
)
from langgraph_switch.engines.resumable import ResumableBatch
from langgraph_switch.engines.together import Tell, call_together
from langgraph_switch.engines.tokenizer import Tokenizer
from langgraph_switch.errors import ConfigError, EngineError, EngineOutOfMemoryError

_log = logging.getLogger(__name__)
_Send: TypeAlias = Callable[[Engine, Sequence[int], Tell], Mapping[int, EngineError]]
"""Lets a replica work on some requests; returns the errors of those that failed."""


class ReplicatedEngine:
    """Spreads rows over replicas of one model. Thread-safe."""

    def __init__(
        self,
        replicas: Sequence[Engine],
        *,
        name: str | None = None,
        cooldown_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Put replicas together.

        Args:
            replicas: Engines with the same weights.
            name: What to call the model in messages; by default as the first replica.
            cooldown_s: Seconds for which a replica that failed is asked only if all others have
                failed too.
            clock: Seconds that never go back.

        Raises:
            ConfigError: There are none, or they have different tokenizers.
        """
        if not replicas:
            raise ConfigError("A replicated engine needs replicas.", hint="give at least one")
        if len({one.tokenizer.fingerprint for one in replicas}) > 1:
            raise ConfigError(
                "Replicas with different tokenizers cannot be the same model.",
                hint="give replicas of one checkpoint; others are candidates of their own",
            )
        self.replicas = tuple(replicas)
        self._name = name or replicas[0].name
        self._cooldown_s = cooldown_s
        self._clock = clock
        self._cool_until = [0.0] * len(replicas)
        self._moved: dict[str, int] = {}
        """Rows that are not where their hash would put them."""
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """What to call the model in messages."""
        return self._name

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        return self.replicas[0].tokenizer

    @property
    def vocab_size(self) -> int:
        """How many token ids every replica knows."""
        return min(one.vocab_size for one in self.replicas)

    @property
    def max_context_tokens(self) -> int:
        """Most tokens that every replica holds."""
        return min(one.max_context_tokens for one in self.replicas)

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """Tokens that end a turn."""
        return self.replicas[0].eos_token_ids

    def generate(
        self, requests: Sequence[GenerateRequest], on_token: OnToken | None = None
    ) -> list[Continuation]:
        """Continue every prefix where its row lives, all replicas at the same time.

        Raises:
            BatchError: Some requests failed on every replica.
            EngineError: All of them did.
        """
        tell = _Relay()
        batch = ResumableBatch(requests, self.tokenizer, tell if on_token else None)
        deadline = _deadline(requests)

        def send(replica: Engine, rows: Sequence[int], told: Tell) -> Mapping[int, EngineError]:
            tell.to = told
            left_s = None if deadline is None else max(0.001, deadline - time.monotonic())
            return batch.send(replica, rows, timeout_s=left_s)

        errors = self._spread(requests, send, on_token)
        outcomes = [errors.get(row) or batch.result(row) for row in range(len(requests))]
        return all_written(outcomes)

    def label_logprobs(self, requests: Sequence[LabelRequest]) -> list[tuple[float, ...]]:
        """Return the log-probability of each request's labels.

        Raises:
            EngineError: A request failed on every replica.
        """
        found: dict[int, tuple[float, ...]] = {}

        def send(replica: Engine, rows: Sequence[int], _: Tell) -> Mapping[int, EngineError]:
            try:
                scores = replica.label_logprobs([requests[row] for row in rows])
            except EngineError as err:
                return dict.fromkeys(rows, err)
            found.update(zip(rows, scores, strict=True))
            return {}

        for error in self._spread(requests, send, None).values():
            raise error
        return [found[row] for row in range(len(requests))]

    def release(self, rows: Iterable[str]) -> None:
        """Forget rows, wherever they have been."""
        rows = list(rows)
        for replica in self.replicas:
            replica.release(rows)
        with self._lock:
            for row in rows:
                self._moved.pop(row, None)

    def place(self, row: str) -> int:
        """Return the index of the replica that a row lives on now."""
        found = self._place(row, fork_of=None, tried=frozenset())
        return 0 if found is None else found

    def _spread(
        self,
        requests: Sequence[GenerateRequest] | Sequence[LabelRequest],
        send: _Send,
        on_token: OnToken | None,
    ) -> dict[int, EngineError]:
        """Send requests to their replicas, then those that failed to the next ones."""
        tried: list[set[int]] = [set() for _ in requests]
        errors: dict[int, EngineError] = {}
        todo = list(range(len(requests)))
        while todo:
            groups: dict[int, list[int]] = defaultdict(list)
            for row in todo:
                request = requests[row]
                fork_of = request.fork_of if isinstance(request, GenerateRequest) else None
                place = self._place(request.row, fork_of=fork_of, tried=tried[row])
                if place is not None:
                    groups[place].append(row)
                    tried[row].add(place)
            todo = [row for rows in groups.values() for row in rows]
            for row in todo:
                errors.pop(row, None)
            if groups:
                errors |= self._send(groups, send, on_token)
            todo = [row for row in todo if row in errors and _may_work_elsewhere(errors[row])]
        return errors

    def _send(
        self, groups: Mapping[int, Sequence[int]], send: _Send, on_token: OnToken | None
    ) -> dict[int, EngineError]:
        def call(place: int, rows: Sequence[int]) -> Callable[[Tell], dict[int, EngineError]]:
            def work(tell: Tell) -> dict[int, EngineError]:
                errors = dict(send(self.replicas[place], rows, tell))
                self._note(place, list(errors.values()), is_whole=len(errors) == len(rows))
                return errors

            return work

        calls = [call(place, rows) for place, rows in groups.items()]
        if len(calls) == 1:
            return calls[0](on_token or _nobody)
        found: dict[int, EngineError] = {}
        for errors in call_together(calls, on_token):
            if isinstance(errors, EngineError):
                raise errors
            found |= errors
        return found

    def _note(self, place: int, errors: Sequence[EngineError], *, is_whole: bool) -> None:
        """Put a replica that serves nobody on cooldown; take one that does off."""
        if not errors:
            self._cool_until[place] = 0.0
        elif is_whole and any(error.retryable for error in errors):
            asked_s = max(error.retry_after_s or 0.0 for error in errors)
            self._cool_until[place] = self._clock() + max(self._cooldown_s, asked_s)
            _log.warning("%s: replica %d failed: %s", self._name, place, errors[0].message)

    def _place(self, row: str, *, fork_of: str | None, tried: Iterable[int]) -> int | None:
        """Return where to send a row, and remember it; None if no replica is worth a call."""
        now = self._clock()
        tried = set(tried)
        with self._lock:
            home = self._moved.get(fork_of or row)
            ranking = sorted(
                range(len(self.replicas)),
                key=lambda i: (i != self._moved.get(row, home), -_weight(fork_of or row, i)),
            )
            left = [place for place in ranking if place not in tried]
            ready = [place for place in left if self._cool_until[place] <= now]
            if not ready and tried:
                return None
            place = (ready or left)[0]
            if fork_of is not None or place != _home(row, len(self.replicas)):
                self._moved[row] = place
            return place


class _Relay:
    """Passes tokens on to whoever listens at the moment."""

    to: Tell | None = None

    def __call__(self, index: int, token: NewToken) -> None:
        if self.to is not None:
            self.to(index, token)


def _nobody(_index: int, _token: NewToken) -> None:
    """Hear nothing."""


def _weight(row: str, place: int) -> int:
    """Return a number of a row and a replica: the highest one wins (rendezvous hashing)."""
    digest = hashlib.blake2b(f"{row}\x1f{place}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def _home(row: str, num_replicas: int) -> int:
    return max(range(num_replicas), key=lambda place: _weight(row, place))


def _may_work_elsewhere(error: EngineError) -> bool:
    return error.retryable or isinstance(error, EngineOutOfMemoryError)


def _deadline(requests: Sequence[GenerateRequest]) -> float | None:
    limits = [one.timeout_s for one in requests if one.timeout_s is not None]
    return time.monotonic() + max(limits) if limits else None
