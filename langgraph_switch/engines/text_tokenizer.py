"""A tokenizer for models that read text or messages instead of tokens.

Prompts are kept as they are (their ids are packed bytes, all negative), so that whoever reads them
gets the text, or the messages, back. Responses are tokens of an ordinary tokenizer. Knows nothing
of LangChain.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from langgraph_switch.engines.tokenizer import Tokenizer
from langgraph_switch.trace import Message

_MESSAGES_ID = -1
"""Begins a prompt that is a list of messages."""
_CHUNK_BYTES = 4  # About as many as a token of text has, so that lengths are comparable.


class TextTokenizer:
    """Another tokenizer for responses; prompts as text that is never taken apart."""

    def __init__(self, base: Tokenizer, *, reads_messages: bool) -> None:
        """Wrap a tokenizer.

        Args:
            base: Turns responses into tokens, and renders chats for a model that reads text.
            reads_messages: Whether the model reads messages, so that no template is needed.
        """
        self._base = base
        self._reads_messages = reads_messages

    @property
    def fingerprint(self) -> str:
        """The base's: the same ids mean the same text."""
        return self._base.fingerprint

    @property
    def has_chat_template(self) -> bool:
        """Whether messages can be read."""
        return self._reads_messages or self._base.has_chat_template

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the ids of a piece of a response."""
        return self._base.encode(text)

    def encode_document(self, text: str) -> tuple[int, ...]:
        """Return the ids of a prompt that is plain text."""
        return _packed(text)

    def render_chat(self, messages: Sequence[Message], *, tools: Sequence[str] = ()) -> str:
        """Return messages as JSON, or in the base's chat template for a model that reads text."""
        if not self._reads_messages:
            return self._base.render_chat(messages, tools=tools)
        return json.dumps([_as_openai(message) for message in messages], ensure_ascii=False)

    def encode_chat(self, text: str) -> tuple[int, ...]:
        """Return the ids of a prompt from `render_chat`."""
        return (_MESSAGES_ID, *_packed(text)) if self._reads_messages else _packed(text)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of a response's ids; a prompt's have none."""
        return self._base.decode([one for one in token_ids if one >= 0])

    def prompt(self, token_ids: Sequence[int]) -> str | list[dict[str, Any]]:
        """Return a prompt: its text, or its messages as dicts in OpenAI's form."""
        if token_ids and token_ids[0] == _MESSAGES_ID:
            found: list[dict[str, Any]] = json.loads(_unpacked(token_ids[1:]))
            return found
        return _unpacked(token_ids)


def _packed(text: str) -> tuple[int, ...]:
    data = text.encode("utf-8", "surrogatepass")
    chunks = (data[i : i + _CHUNK_BYTES] for i in range(0, len(data), _CHUNK_BYTES))
    return tuple(-int.from_bytes(b"\x01" + chunk, "big") for chunk in chunks)


def _unpacked(token_ids: Sequence[int]) -> str:
    chunks = ((-one).to_bytes(_CHUNK_BYTES + 1, "big").lstrip(b"\x00")[1:] for one in token_ids)
    return b"".join(chunks).decode("utf-8", "surrogatepass")


def _as_openai(message: Message) -> dict[str, Any]:
    found: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        found["tool_calls"] = [
            {
                "type": "function",
                "id": call.id,
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        found["tool_call_id"] = message.tool_call_id
    return found
