"""From what a caller asks to a trace with nothing written yet.

Knows nothing of models or graphs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from langgraph_switch.config import SwitchConfig
from langgraph_switch.errors import InputError
from langgraph_switch.seeds import MAX_SEED, content_id, fresh_seed
from langgraph_switch.trace import ROLES, Message, Role, ToolCall, Trace

_ASKED = {"query", "messages", "tools", "grammar"}
_KEYS = frozenset(_ASKED | {"trace_id", "seed", "max_tokens", "stop", "temperature"})


def trace_from_query(query: Any, config: SwitchConfig) -> Trace:
    """Return the trace of a query; what it leaves open comes from the configuration.

    Args:
        query: A text, or a mapping with `query` or `messages` and, if wanted, `trace_id`,
            `seed`, `max_tokens`, `stop`, `temperature`, `tools` (JSON schemas of functions) and
            `grammar` (Lark, as llguidance reads it).
        config: The switch that is to answer it.

    Raises:
        InputError: Unknown keys, or values of the wrong kind or out of range.
    """
    if not isinstance(query, str | Mapping):
        raise InputError(
            f"A query must be a text or an object, not {type(query).__name__}.",
            hint='pass "...", or {"query": "...", "seed": 0}',
        )
    fields = {"query": query} if isinstance(query, str) else dict(query)
    if unknown := sorted(str(key) for key in fields if key not in _KEYS):
        raise InputError(
            f"A query has no key {unknown[0]!r}.", hint=f"use {', '.join(sorted(_KEYS))}"
        )
    messages = _messages(fields)
    seed = _first_given(fields.get("seed"), config.seed)
    trace = Trace(
        messages=messages,
        trace_id="",
        seed=fresh_seed() if seed is None else _seed(seed),
        max_tokens=_max_tokens(_first_given(fields.get("max_tokens"), config.max_tokens)),
        stop=_stop(_first_given(fields.get("stop"), config.stop)),
        temperature=_temperature(fields.get("temperature")),
        tools=_tools(fields.get("tools")),
        grammar=_grammar(fields.get("grammar")),
    )
    trace_id = fields.get("trace_id")
    return trace.with_id(content_id(trace.query) if trace_id is None else str(trace_id))


def _messages(fields: Mapping[str, Any]) -> tuple[Message, ...]:
    if ("query" in fields) == ("messages" in fields):
        raise InputError("Give exactly one of `query` and `messages`.", hint="name the question")
    if "query" in fields:
        if not isinstance(fields["query"], str):
            kind = type(fields["query"]).__name__
            raise InputError(f"`query` must be a string, not {kind}.", hint="pass the text")
        return (Message(role="user", content=fields["query"]),)
    if not isinstance(fields["messages"], list | tuple):
        kind = type(fields["messages"]).__name__
        raise InputError(f"`messages` must be a list, not {kind}.", hint="pass a list")
    return tuple(_message(message) for message in fields["messages"])


def _message(data: Any) -> Message:
    fields = data if isinstance(data, Mapping) else {}
    role, content = fields.get("role"), fields.get("content")
    if not isinstance(role, str) or role not in ROLES or not isinstance(content, str):
        raise InputError(
            f"A message needs a role ({', '.join(sorted(ROLES))}) and a text, got {data!r}.",
            hint='write {"role": "user", "content": "..."}',
        )
    return Message(
        role=cast("Role", role),
        content=content,
        tool_calls=tuple(_tool_call(call) for call in fields.get("tool_calls") or ()),
        tool_call_id=fields.get("tool_call_id"),
    )


def _tool_call(data: Any) -> ToolCall:
    """Return a call given as `{"id", "name", "arguments"}`, the arguments as object or text."""
    fields = data if isinstance(data, Mapping) else {}
    arguments = fields.get("arguments", {})
    if not isinstance(fields.get("name"), str) or not isinstance(arguments, str | Mapping):
        raise InputError(
            f"A tool call needs a name and arguments, got {data!r}.",
            hint='write {"id": "1", "name": "add", "arguments": {"a": 1}}',
        )
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return ToolCall(id=str(fields.get("id", "")), name=fields["name"], arguments=arguments)


def _tools(value: Any) -> tuple[str, ...]:
    return tuple(_tool(one) for one in value or ())


def _tool(data: Any) -> str:
    function = data.get("function") if isinstance(data, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise InputError(
            f"A tool is described by a JSON schema with a name, got {data!r}.",
            hint='write {"type": "function", "function": {"name": "add", "parameters": {...}}}',
        )
    return json.dumps(data, ensure_ascii=False)


def _grammar(value: Any) -> str | None:
    if value is not None and (not isinstance(value, str) or not value.strip()):
        raise InputError(
            f"`grammar` must be a Lark grammar as text, got {value!r}.",
            hint='leave it out, or write \'start: "yes" | "no"\'',
        )
    return value


def _first_given(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _seed(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_SEED:
        raise InputError(
            f"`seed` must be an integer in 0 ... 2**63 - 1, got {value!r}.", hint="pass seed=0"
        )
    return value


def _max_tokens(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InputError(
            f"`max_tokens` must be a positive integer, got {value!r}.", hint="pass max_tokens=512"
        )
    return value


def _stop(value: Any) -> tuple[str, ...]:
    strings = (value,) if isinstance(value, str) else value
    if not isinstance(strings, list | tuple) or any(
        not isinstance(one, str) or not one for one in strings
    ):
        raise InputError(
            f"Stop strings must be texts that are not empty, got {value!r}.",
            hint='pass stop=["\\n\\n"], or none',
        )
    return tuple(strings)


def _temperature(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 10:  # noqa: PLR2004
        raise InputError(
            f"`temperature` must be a number from 0 to 10, got {value!r}.",
            hint="pass temperature=0 for the most probable tokens",
        )
    return float(value)
