"""LangChain messages as the messages of a query.

Knows nothing of models or of how candidates read a conversation.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from langgraph_switch.errors import InputError
from langgraph_switch.trace import ROLES

_INSTRUCTION = "Answer with nothing but a JSON object of this schema: "
_CALL_BLOCKS = frozenset({"tool_use", "tool_call", "function_call", "tool_call_chunk"})
"""Blocks that repeat what `tool_calls` says."""


def query_messages(messages: Sequence[BaseMessage]) -> list[dict[str, Any]]:
    """Return a conversation as plain JSON types.

    Raises:
        InputError: There is nothing to answer, or something that is no text.
    """
    if not messages:
        raise InputError("There are no messages.", hint='pass [("human", "...")]')
    found = [_query_message(message) for message in messages]
    if all(message["role"] == "system" for message in found):
        raise InputError(
            "There is only a system message: nothing is asked.",
            hint='add a message of the user: ("human", "...")',
        )
    return found


def with_schema(messages: Sequence[BaseMessage], schema: dict[str, Any]) -> list[BaseMessage]:
    """Return a conversation whose system message tells which JSON is expected."""
    text = _INSTRUCTION + json.dumps(schema, ensure_ascii=False)
    if messages and isinstance(messages[0], SystemMessage):
        return [SystemMessage(f"{_text(messages[0])}\n\n{text}"), *messages[1:]]
    return [SystemMessage(text), *messages]


def _query_message(message: BaseMessage) -> dict[str, Any]:
    role = _role(message)
    found: dict[str, Any] = {"role": role, "content": _text(message)}
    if isinstance(message, AIMessage) and message.tool_calls:
        found["tool_calls"] = [
            {"id": call["id"] or "", "name": call["name"], "arguments": call["args"]}
            for call in message.tool_calls
        ]
    if isinstance(message, ToolMessage):
        found["tool_call_id"] = message.tool_call_id
    return found


def _role(message: BaseMessage) -> str:
    match message:
        case SystemMessage():
            return "system"
        case HumanMessage():
            return "user"
        case AIMessage():
            return "assistant"
        case ToolMessage() | FunctionMessage():
            return "tool"
        case ChatMessage(role=role) if role in ROLES:
            return str(role)
    kind = getattr(message, "role", message.type)
    raise InputError(
        f"A message of {kind!r} has no place in a conversation.",
        hint="use system, human, ai and tool messages",
    )


def _text(message: BaseMessage) -> str:
    """Return a message's text.

    Raises:
        InputError: It holds images, audio or files.
    """
    if isinstance(message.content, str):
        return message.content
    return "".join(_block_text(block) for block in message.content)


def _block_text(block: str | dict[Any, Any]) -> str:
    if isinstance(block, str):
        return block
    kind = str(block.get("type"))
    if kind in {"text", "input_text", "output_text"} and isinstance(block.get("text"), str):
        return str(block["text"])
    if kind in _CALL_BLOCKS:
        return ""
    raise InputError(
        f"The candidates read text alone; a message holds a block of type {kind!r}.",
        hint="leave it out, or describe it in words",
    )
