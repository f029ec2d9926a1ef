"""Ends in growing text: has a stop string come, what could become one, does a sentence end?

Pure functions of text, shared by engines (when to stop) and by streaming (what may be shown).
"""

from __future__ import annotations

from collections.abc import Sequence

_SENTENCE_ENDS = (".", "!", "?", "…", "。", "！", "？")  # noqa: RUF001 - full-width on purpose
_CLOSING = " \"')]}»”’*_"  # noqa: RUF001


def find_stop(text: str, stop: Sequence[str], *, start: int = 0) -> int | None:
    """Return where the earliest stop string begins that ends after `start`, if any."""
    found = [
        index
        for string in stop
        if (index := text.find(string, max(0, start - len(string) + 1))) >= 0
    ]
    return min(found, default=None)


def held_length(text: str, stop: Sequence[str]) -> int:
    """Return how many characters at the end of `text` may be the beginning of a stop string."""
    longest = max((len(string) for string in stop), default=1) - 1
    for length in range(min(longest, len(text)), 0, -1):
        if any(string.startswith(text[-length:]) for string in stop if len(string) > length):
            return length
    return 0


def ends_sentence(piece: str) -> bool:
    """Return whether a piece of text ends a sentence or a line; closing quotes may follow."""
    if "\n" in piece:
        return True
    return piece.rstrip(_CLOSING).endswith(_SENTENCE_ENDS)


class StopWatch:
    """Notices when growing text contains a stop string, also one that began in `before`."""

    def __init__(self, stop: Sequence[str], before: str = "") -> None:
        longest = max((len(string) for string in stop), default=1) - 1
        self._stop = stop
        self._longest = longest
        self._tail = before[len(before) - min(longest, len(before)) :]

    def push(self, text: str) -> bool:
        """Take new text; return whether a stop string is complete now."""
        if not self._stop or not text:
            return False
        seen = self._tail + text
        if find_stop(seen, self._stop, start=len(self._tail)) is not None:
            return True
        self._tail = seen[len(seen) - min(self._longest, len(seen)) :]
        return False
