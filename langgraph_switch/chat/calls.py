"""A response taken apart as it comes: words for the user, and calls of tools.

Understands calls between marks (`<tool_call>`, the form of Hermes and Qwen models) and a response
that is nothing but JSON (the form of Llama models). Knows nothing of models or LangChain.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from langgraph_switch.blocks import json_end

_MARKS = {
    "<tool_call>": "</tool_call>",
    "<function_call>": "</function_call>",
    "<|python_tag|>": "<|eom_id|>",
    "[TOOL_CALLS]": "</s>",
}
_ARGUMENTS = ("arguments", "parameters", "args")


@dataclass(frozen=True, slots=True)
class ParsedCall:
    """A call as it was written."""

    name: str | None
    arguments: dict[str, Any] | None
    """None for a call that cannot be understood."""
    raw: str
    """As written, with its opening mark."""
    error: str | None = None


class CallReader(Protocol):
    """Takes a response apart while it comes."""

    @property
    def calls(self) -> Sequence[ParsedCall]:
        """The calls so far."""
        ...

    def push(self, text: str, *, may_call: bool) -> str:
        """Take what was written next, and return the words that may be shown now."""
        ...

    def finish(self) -> str:
        """Return the words that are left."""
        ...


class CallScanner:
    """Separates words from calls; what could still become a call is held back."""

    def __init__(self) -> None:
        self.calls: list[ParsedCall] = []
        self._held = ""
        self._opening: str | None = None  # The mark of the call we are in.
        self._has_shown = False

    def push(self, text: str, *, may_call: bool) -> str:
        """Return the words that may be shown now.

        Args:
            text: What was written next.
            may_call: Whether its speaker may call tools; of anybody else a call is just text.
        """
        self._held += text
        if self._opening is None and not may_call:
            return self._show(len(self._held))
        shown = ""
        while True:
            if self._opening is not None:
                closing = _MARKS[self._opening]
                end = self._held.find(closing)
                if end < 0:
                    return shown
                self.calls += parse_calls(self._held[:end], mark=self._opening)
                self._held = self._held[end + len(closing) :]
                self._opening = None
            opening = self._next_opening()
            if opening is None:
                return shown + self._show(len(self._held) - self._num_undecided())
            start = self._held.index(opening)
            shown += self._show(len(self._held[:start].rstrip()))
            self._held = self._held.lstrip()[len(opening) :]
            self._opening = opening

    def finish(self) -> str:
        """Return the words that are left; a call that was never closed is one all the same."""
        if self._opening is not None:
            self.calls += parse_calls(self._held, mark=self._opening)
            self._held = ""
        elif self._is_json_alone() and (found := _bare_calls(self._held)):
            self.calls += found
            self._held = ""
        elif self.calls and not self._held.strip():
            self._held = ""
        return self._show(len(self._held))

    def _show(self, length: int) -> str:
        shown, self._held = self._held[:length], self._held[length:]
        self._has_shown = self._has_shown or bool(shown)
        return shown

    def _next_opening(self) -> str | None:
        places = [(self._held.find(mark), mark) for mark in _MARKS]
        return min(((at, mark) for at, mark in places if at >= 0), default=(0, None))[1]

    def _num_undecided(self) -> int:
        """Return how many characters at the end may still belong to a call."""
        if self._is_json_alone():
            return len(self._held)
        words = self._held.rstrip()
        for size in range(min(len(words), max(map(len, _MARKS)) - 1), 0, -1):
            if any(mark.startswith(words[-size:]) for mark in _MARKS):
                words = words[:-size].rstrip()
                break
        return len(self._held) - len(words)

    def _is_json_alone(self) -> bool:
        return not self._has_shown and self._held.lstrip()[:1] in {"{", "["}


def parse_calls(text: str, *, mark: str = "") -> list[ParsedCall]:
    """Return the calls in the text between two marks; there may be several in a list."""
    raw = mark + text.rstrip()
    try:
        found = json.loads(text)
    except ValueError as err:
        return [ParsedCall(name=None, arguments=None, raw=raw, error=f"no JSON: {err}")]
    return [parsed_call(one, raw) for one in (found if isinstance(found, list) else [found])]


def _bare_calls(text: str) -> list[ParsedCall]:
    """Return the calls of a response that is nothing but JSON, if that is what it says."""
    start = len(text) - len(text.lstrip())
    found: list[ParsedCall] = []
    while start < len(text):
        end = json_end(text, start)
        if end is None:
            return []
        found += parse_calls(text[start:end])
        rest = text[end:].lstrip(" \t\r\n;,")  # Llama models write several in a row.
        start = len(text) - len(rest)
        if rest and rest[0] not in "{[":
            return []
    return found if all(call.error is None for call in found) else []


def parsed_call(data: Any, raw: str) -> ParsedCall:
    """Return a call from its JSON, in any of the forms that models write."""
    if isinstance(data, dict) and isinstance(data.get("function"), dict):
        data = data["function"]
    if not isinstance(data, dict) or not isinstance(data.get("name"), str):
        return ParsedCall(name=None, arguments=None, raw=raw, error="a call needs a name")
    given = next((data[key] for key in _ARGUMENTS if key in data), None)
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except ValueError as err:
            return ParsedCall(data["name"], None, raw, f"the arguments are no JSON: {err}")
    if not isinstance(given, dict):
        return ParsedCall(data["name"], None, raw, "the arguments are no JSON object")
    return ParsedCall(name=data["name"], arguments=given, raw=raw)
