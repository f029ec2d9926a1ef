"""Grammars (Lark, as llguidance reads it) that make a response a tool call or JSON of a schema.

Knows nothing of models or of who enforces a grammar.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

_COMPACT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


def can_constrain() -> bool:
    """Return whether the library that enforces grammars is installed."""
    return find_spec("llguidance") is not None


def json_grammar(schema: Mapping[str, Any]) -> str:
    """Return the grammar of a JSON value."""
    return f"start: %json {_strict_json(schema)}\n"


def call_grammar(tools: Sequence[Mapping[str, Any]]) -> str:
    """Return the grammar of one call of one of these tools, between marks.

    Args:
        tools: JSON schemas of functions in OpenAI's form.
    """
    names = " | ".join(f"call_{number}" for number in range(len(tools)))
    rules = ['start: "<tool_call>\\n" call "\\n</tool_call>"', f"call: {names}"]
    for number, tool in enumerate(tools):
        function = tool["function"]
        before = json.dumps(f'{{"name": {json.dumps(function["name"])}, "arguments": ')
        parameters = function.get("parameters") or {"type": "object", "properties": {}}
        rules.append(f'call_{number}: {before} arguments_{number} "}}"')
        rules.append(f"arguments_{number}: %json {_strict_json(parameters)}")
    return "\n".join(rules) + "\n"


def _strict_json(schema: Mapping[str, Any]) -> str:
    strict = _closed(copy.deepcopy(dict(schema)))
    return json.dumps(strict | {"x-guidance": _COMPACT})


def _closed(schema: Any) -> Any:
    """Return a schema in which objects have no keys but those that are described."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    if isinstance(closed.get("properties"), dict) and closed.get("type", "object") == "object":
        closed.setdefault("additionalProperties", False)
    return closed
