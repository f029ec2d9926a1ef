"""A response taken apart by its model's own response template, as transformers reads it.

For tokenizers that carry a `response_template`; `CallScanner` is for all others, and does the same
job. Knows nothing of models or LangChain.
"""

from __future__ import annotations

from typing import Any

from langgraph_switch.chat.calls import ParsedCall, parsed_call

_CONTENT, _CALLS = "content", "tool_calls"


class TemplateReader:
    """Separates words from calls, piece by piece; what is neither (thoughts) is left out."""

    def __init__(self, parser: Any) -> None:
        """Read a response.

        Args:
            parser: transformers' `ResponseParser`, told of the prompt and the tools.
        """
        self.calls: list[ParsedCall] = []
        self._parser = parser
        self._field: str | None = None  # The region that we are in; None for words.
        self._raw = ""
        self._is_broken = False

    def push(self, text: str, *, may_call: bool) -> str:
        """Return the words that may be shown now.

        Args:
            text: What was written next.
            may_call: Whether its speaker may call tools; of anybody else a call is just text.
        """
        if not may_call and self._field is None:
            return text
        words = ""
        for index, character in enumerate(text):  # An error loses what was fed along with it.
            if self._is_broken:
                return words + text[index:]
            words += self._fed(character)
        return words

    def finish(self) -> str:
        """Return the words that are left."""
        if self._is_broken:
            return ""
        try:
            _, events = self._parser.finalize()
            return self._words(events)
        except ValueError as err:
            self._break(err)
            return ""

    def _words(self, events: list[dict[str, Any]]) -> str:
        words = []
        for event in events:
            kind, field = event["type"], event["field"]
            if kind == "region_open" and field != _CONTENT:
                self._field, self._raw = field, ""
            elif kind == "region_chunk" and field == _CONTENT:
                words.append(event["text"])
            elif kind == "region_chunk":
                self._raw += event["text"]
            elif kind == "region_close" and field != _CONTENT:
                self._field = None
                if field == _CALLS:
                    found = event["value"]
                    calls = found if isinstance(found, list) else [found]
                    self.calls += [parsed_call(call, self._raw) for call in calls]
        return "".join(words)

    def _fed(self, character: str) -> str:
        try:
            return self._words(self._parser.feed(character))
        except ValueError as err:
            self._break(err)
            return ""

    def _break(self, err: ValueError) -> None:
        """Keep a call that the template cannot read; what follows it is words."""
        self._is_broken = True
        if self._field == _CALLS:
            raw = f"<{_CALLS}>{self._raw}"
            self.calls.append(ParsedCall(name=None, arguments=None, raw=raw, error=str(err)))
