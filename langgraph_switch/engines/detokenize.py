"""Token ids to text, one token at a time, without ever showing half a character.

Knows nothing of models or of when a response ends.
"""

from __future__ import annotations

from collections.abc import Sequence

from langgraph_switch.engines.tokenizer import Tokenizer

BROKEN = "\N{REPLACEMENT CHARACTER}"
_CONTEXT_TOKENS = 16
_MAX_HELD_TOKENS = 8  # A character has at most 4 bytes, so more held tokens are not one.
_KEPT_TOKENS = 4  # As many as a character's bytes.


class IncrementalDetokenizer:
    """Decodes a growing response; the concatenated pieces equal decoding it at once.

    A piece is the difference of two decodings that begin at the same earlier token, so that
    tokenizers which strip or insert blanks at the start of a text do no harm.
    """

    def __init__(self, tokenizer: Tokenizer, context: Sequence[int] = ()) -> None:
        """Start behind `context`, response tokens whose complete characters are known."""
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._num_shown = 0  # Tokens of `_ids` whose text has been returned.
        self._shown_text = ""
        for token_id in context[self._clean_start(context) :]:
            self.push(token_id)

    def push(self, token_id: int) -> str:
        """Take one more token and return the characters that are complete now."""
        self._ids.append(token_id)
        whole = self._tokenizer.decode(self._ids)
        if not whole.endswith(BROKEN):
            return self._show(len(self._ids), whole)
        if len(self._ids) - self._num_shown <= _MAX_HELD_TOKENS:
            return ""
        keep = len(self._ids) - _KEPT_TOKENS
        start = self._tokenizer.decode(self._ids[:keep])
        return self._show(keep, start) if whole.startswith(start) else ""

    @property
    def pending_text(self) -> str:
        """What the held tokens are decoded to, should nothing follow; mostly empty."""
        if self._num_shown == len(self._ids):
            return ""
        return self._tokenizer.decode(self._ids)[len(self._shown_text) :]

    @property
    def is_pending(self) -> bool:
        """Whether tokens are held because a character is incomplete."""
        return bool(self.pending_text)

    def _show(self, num_tokens: int, text: str) -> str:
        piece = text[len(self._shown_text) :]
        # The next window begins where this piece did: between two characters, and with text.
        first = self._num_shown if piece else 0
        self._ids = self._ids[first:]
        self._num_shown = num_tokens - first
        self._shown_text = self._tokenizer.decode(self._ids[: self._num_shown]) if first else text
        return piece

    def _clean_start(self, context: Sequence[int]) -> int:
        """Return where to begin reading the context so that no character is cut."""
        latest = max(0, len(context) - _CONTEXT_TOKENS)
        for start in range(latest, max(-1, latest - _KEPT_TOKENS), -1):
            if self._begins_character(context[start:]):
                return start
        return latest

    def _begins_character(self, ids: Sequence[int]) -> bool:
        """Return whether some first tokens are text; their end may cut another character.

        Some tokenizers decode a whole run of bytes to nothing but replacements for one such cut.
        """
        first = (self._tokenizer.decode(ids[:count]) for count in range(1, _KEPT_TOKENS + 1))
        return any(not text.startswith(BROKEN) for text in first)
