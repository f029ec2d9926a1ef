"""Tools and formats as callers give them, as what a query asks for.

Knows nothing of models or of how candidates read tools.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from langgraph_switch.chat.grammars import call_grammar, can_constrain, json_grammar
from langgraph_switch.errors import InputError, MissingExtraError
from langgraph_switch.prompts.candidate import SwitchWarning

_FREE = {None, "auto", False}
_ANY = {"any", "required", True}


def tool_schemas(
    tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
) -> list[dict[str, Any]]:
    """Return the JSON schemas of tools in OpenAI's form."""
    return [convert_to_openai_tool(tool) for tool in tools]


def constrained(
    tools: Sequence[dict[str, Any]],
    tool_choice: Any,
    *,
    response_format: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return a query's `tools` and `grammar`, as far as there are any.

    Args:
        tools: JSON schemas of functions.
        tool_choice: Which of them has to be called: see `ChatSwitch.bind_tools`.
        response_format: OpenAI's form of a JSON schema that the whole answer has to follow.

    Raises:
        InputError: `tool_choice` names no tool, or the format is of another form.
        MissingExtraError: A format is asked for and nothing can enforce it.
    """
    if response_format is not None:
        return {"grammar": _format_grammar(response_format)}
    if not tools or tool_choice == "none":
        return {}
    forced = _forced(tools, tool_choice)
    if not forced:
        return {"tools": list(tools)}
    if can_constrain():
        return {"tools": list(tools), "grammar": call_grammar(forced)}
    warnings.warn(
        "tool_choice is a wish: it is certain only with constrained decoding. "
        "Fix: pip install 'langgraph-switch[structured]'",
        SwitchWarning,
        stacklevel=3,
    )
    return {"tools": list(tools)}


def _forced(tools: Sequence[dict[str, Any]], tool_choice: Any) -> list[dict[str, Any]]:
    """Return the tools of which one has to be called; none if that is left open."""
    name = tool_choice
    if isinstance(tool_choice, Mapping):
        name = tool_choice.get("function", tool_choice).get("name")
    elif tool_choice in _FREE:
        return []
    elif tool_choice in _ANY:
        return list(tools)
    found = [tool for tool in tools if tool["function"]["name"] == name]
    if not found:
        names = ", ".join(tool["function"]["name"] for tool in tools)
        raise InputError(
            f"tool_choice names no tool: {tool_choice!r}.", hint=f"use any, auto, none or {names}"
        )
    return found


def _format_grammar(response_format: Mapping[str, Any]) -> str:
    if not can_constrain():
        raise MissingExtraError("An answer in a format", extra="structured")
    match response_format:
        case {"type": "json_object"}:
            return json_grammar({"type": "object"})
        case {"type": "json_schema", "json_schema": {"schema": schema}}:
            return json_grammar(schema)
    raise InputError(
        f"This is no format: {response_format!r}.",
        hint='write {"type": "json_schema", "json_schema": {"name": ..., "schema": {...}}}',
    )
