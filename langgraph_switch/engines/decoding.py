"""One request while its tokens come: what it has, and whether it has ended.

Knows nothing of tensors or of how tokens are computed, so every engine that decodes token by
token can use it.
"""

from __future__ import annotations

from typing import Protocol

from langgraph_switch.engines.base import (
    Continuation,
    FinishReason,
    GenerateRequest,
    NewToken,
    OnToken,
)
from langgraph_switch.engines.detokenize import BROKEN, IncrementalDetokenizer
from langgraph_switch.engines.tokenizer import Tokenizer
from langgraph_switch.stops import BoundaryWatch, StopWatch

# A response this far back is decoded to see whether a stop string began in it.
_STOP_CONTEXT_TOKENS = 128


class Rules(Protocol):
    """What a row's text has to follow."""

    @property
    def is_complete(self) -> bool:
        """Whether nothing may follow any more."""
        ...

    def accept(self, token_id: int) -> None:
        """Go on behind a token."""
        ...


class RowProgress:
    """Collects one request's tokens and applies its stop rules."""

    def __init__(
        self,
        index: int,
        request: GenerateRequest,
        tokenizer: Tokenizer,
        on_token: OnToken | None = None,
    ) -> None:
        self.request = request
        self.token_ids: list[int] = []
        self._index = index
        self._on_token = on_token
        self._eos = frozenset(request.eos_token_ids)
        self._finish_reason: FinishReason | None = None
        self._text: list[str] = []
        self._num_complete = 0
        written = request.prefix[request.response_start :]
        self._detokenizer = IncrementalDetokenizer(tokenizer, written)
        self._boundary = BoundaryWatch(
            request.end_at, tokenizer.decode(written) if request.end_at == "code" else ""
        )
        before = tokenizer.decode(written[-_STOP_CONTEXT_TOKENS:]) if request.stop else ""
        before = before.rstrip(BROKEN)
        self._watch = StopWatch(request.stop, before)

    @property
    def is_finished(self) -> bool:
        """Whether this row needs no more tokens."""
        return self._finish_reason is not None

    @property
    def num_complete(self) -> int:
        """Tokens up to the last complete character."""
        return self._num_complete

    def accept(self, token_id: int, rules: Rules | None = None) -> None:
        """Take the next token; a finished row ignores it.

        Args:
            token_id: The token.
            rules: Hears of the token, and may end the row: nothing can follow it.
        """
        if self._finish_reason is not None:
            return
        if token_id in self._eos:
            self._finish_reason = "eos"
            return
        self.token_ids.append(token_id)
        text = self._detokenizer.push(token_id)
        self._text.append(text)
        if not self._detokenizer.is_pending:
            self._num_complete = len(self.token_ids)
        if self._on_token is not None:
            self._on_token(self._index, NewToken(token_id, text))
        if rules is not None:
            rules.accept(token_id)
        self._finish_reason = self._reason_to_end(text, rules)
        if self._finish_reason == "length" and self.request.extra_tokens is not None:
            del self.token_ids[self._num_complete :]  # Nothing of these was shown.

    def continuation(self, *, cached_tokens: int, prefill_tokens: int) -> Continuation:
        """Return the result of a finished row."""
        return Continuation(
            token_ids=tuple(self.token_ids),
            text="".join(self._text),
            pending_text=self._detokenizer.pending_text if self._has_pending() else "",
            finish_reason=self._finish_reason or "length",
            cached_tokens=cached_tokens,
            prefill_tokens=prefill_tokens,
        )

    def _reason_to_end(self, text: str, rules: Rules | None) -> FinishReason | None:
        if rules is not None and rules.is_complete:
            return "grammar"
        if self._watch.push(text):
            return "stop"
        if self._boundary.push(text):
            return "boundary"
        return "length" if self._has_all_tokens() else None

    def _has_all_tokens(self) -> bool:
        num_extra = len(self.token_ids) - self.request.max_new_tokens
        if num_extra < 0:
            return False
        return not self._has_pending() or num_extra >= (self.request.extra_tokens or 0)

    def _has_pending(self) -> bool:
        return len(self.token_ids) > self._num_complete
