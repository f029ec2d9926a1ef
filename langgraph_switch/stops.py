"""Ends in growing text: has a stop string come, what could become one, does a sentence end?

Pure functions of text, shared by engines (when to stop) and by streaming (what may be shown).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from langgraph_switch.config import SegmentBoundary

_SENTENCE_ENDS = (".", "!", "?", "…", "。", "！", "？")  # noqa: RUF001 - full-width on purpose
_FENCE = re.compile(r"^[ \t]*```", re.MULTILINE)
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


class BoundaryWatch:
    """Notices where growing text ends a sentence, a line or a code block."""

    def __init__(self, kind: SegmentBoundary, before: str = "") -> None:
        self._kind = kind
        lines, _, self._line = before.rpartition("\n")
        self._is_in_code = len(_FENCE.findall(lines)) % 2 == 1

    def push(self, piece: str) -> bool:
        """Take new text; return whether a boundary lies in it."""
        if self._kind == "sentence":
            return ends_sentence(piece)
        if self._kind == "step":
            return "\n" in piece
        return self._kind == "code" and self._ends_code(piece)

    def _ends_code(self, piece: str) -> bool:
        has_ended = False
        *lines, self._line = (self._line + piece).split("\n")
        for _ in filter(_FENCE.match, lines):
            has_ended = has_ended or self._is_in_code
            self._is_in_code = not self._is_in_code
        return has_ended


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
