"""Is a piece of a text still open: a tool call, a code block, a JSON value?

What one speaker has opened another one should not have to close. Knows nothing of traces.
"""

from __future__ import annotations

import re

_CALLS = (("<tool_call>", "</tool_call>"), ("<function_call>", "</function_call>"))
_FENCE = re.compile(r"^[ \t]*```", re.MULTILINE)
_JSON_LEAD = re.compile(r"\s*(?:<\|python_tag\|>|\[TOOL_CALLS\])?\s*(?=[{\[])")
_OPENING, _CLOSING = "{[", "}]"


def has_open_block(text: str) -> bool:
    """Return whether a text breaks off inside a tool call, a code block or a JSON value.

    A JSON value counts where the text begins with it, perhaps behind a tool call's mark.
    """
    for opening, closing in _CALLS:
        begun = any(text.endswith(opening[:size]) for size in range(1, len(opening)))
        if begun or text.count(opening) > text.count(closing):
            return True
    if len(_FENCE.findall(text)) % 2:
        return True
    lead = _JSON_LEAD.match(text)
    return lead is not None and json_end(text, lead.end()) is None


def json_end(text: str, start: int) -> int | None:
    """Return where the JSON object or array that begins at `start` ends; None if it is open."""
    depth = 0
    in_string = is_escaped = False
    for index in range(start, len(text)):
        character = text[index]
        if in_string:
            in_string = is_escaped or character != '"'
            is_escaped = character == "\\" and not is_escaped
        elif character == '"':
            in_string = True
        elif character in _OPENING:
            depth += 1
        elif character in _CLOSING:
            depth -= 1
            if depth == 0:
                return index + 1
    return None
