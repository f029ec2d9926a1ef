"""What the package needs of a tokenizer, and the adapter for Hugging Face tokenizers.

The caller's tokenizer object is only read, never changed. This module knows nothing of
models, segments or candidates.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from langgraph_switch.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from langgraph_switch.trace import Message

_ENCODE_CACHE_SIZE = 4096
_QUERY_CACHE_SIZE = 256


class Tokenizer(Protocol):
    """Text to token ids and back. Implementations never change after construction."""

    @property
    def fingerprint(self) -> str:
        """Equal for two tokenizers exactly when the same ids mean the same text."""
        ...

    @property
    def has_chat_template(self) -> bool:
        """Whether `encode_chat` works."""
        ...

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the ids of text that continues other text: nothing is put around it."""
        ...

    def encode_document(self, text: str) -> tuple[int, ...]:
        """Return the ids of text that starts a document (with BOS, where there is one)."""
        ...

    def render_chat(self, messages: Sequence[Message], *, tools: Sequence[str] = ()) -> str:
        """Return the chat template's text up to where the assistant's turn begins.

        Args:
            messages: The conversation.
            tools: JSON schemas of functions that may be called, as texts.
        """
        ...

    def encode_chat(self, text: str) -> tuple[int, ...]:
        """Return the ids of `render_chat`'s text, which holds its own special tokens."""
        ...

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of ids; special tokens have none, broken characters are U+FFFD."""
        ...


class HFTokenizer:
    """A Hugging Face tokenizer behind the `Tokenizer` protocol."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._cached_encode = lru_cache(maxsize=_ENCODE_CACHE_SIZE)(self._encode_uncached)
        # Every segment begins by reading the same query again.
        self._cached_ids = lru_cache(maxsize=_QUERY_CACHE_SIZE)(self._ids)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of what turns text into ids; added special tokens do not count."""
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        if backend is None:
            described: dict[str, Any] = {"vocab": self._tokenizer.get_vocab()}
        else:
            whole = json.loads(backend.to_str())
            parts = ("model", "normalizer", "pre_tokenizer", "decoder")
            described = {part: whole.get(part) for part in parts}
        text = json.dumps(described, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def response_template(self) -> Any:
        """How a response of the model is taken apart (transformers), if the tokenizer says so."""
        return getattr(self._tokenizer, "response_template", None)

    @property
    def backend(self) -> PreTrainedTokenizerBase:
        """The Hugging Face tokenizer, to be read and not changed."""
        return self._tokenizer

    @property
    def has_chat_template(self) -> bool:
        """Whether the tokenizer carries a chat template."""
        return bool(self._tokenizer.chat_template)

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the ids of text in the middle of a document."""
        return self._cached_encode(text)

    def encode_document(self, text: str) -> tuple[int, ...]:
        """Return the ids of text at the start of a document, special tokens as configured."""
        ids = self._cached_ids(text, add_special_tokens=True)
        eos = self._tokenizer.eos_token_id
        return ids[:-1] if ids and ids[-1] == eos else ids

    def render_chat(self, messages: Sequence[Message], *, tools: Sequence[str] = ()) -> str:
        """Return the chat template's text, the assistant's turn just opened.

        Raises:
            InputError: The template refuses these messages.
        """
        dialogue = [_as_templates_expect(message, messages) for message in messages]
        try:
            text = self._tokenizer.apply_chat_template(
                dialogue,
                tools=[json.loads(tool) for tool in tools] or None,
                tokenize=False,
                add_generation_prompt=True,
            )
        except Exception as err:
            if type(err).__module__.split(".")[0] != "jinja2":
                raise
            raise InputError(
                f"The chat template of {self._tokenizer.name_or_path!r} refuses these "
                f"messages: {err}",
                hint="change the order of roles, or set this candidate's prompt.kind to 'plain'",
            ) from err
        return str(text)

    def encode_chat(self, text: str) -> tuple[int, ...]:
        """Return the ids of a rendered chat; its special tokens are recognised in the text."""
        return self._cached_ids(text, add_special_tokens=False)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of ids without special tokens and without cosmetic changes."""
        text = self._tokenizer.decode(
            list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return str(text)

    @cached_property
    def _lead(self) -> str:
        """Text put before and cut off again, so that no word-start mark is added.

        SentencePiece-like tokenizers begin every text as if a blank stood before it.
        """
        alone = self._ids("x", add_special_tokens=False)
        behind = self._ids("\nx", add_special_tokens=False)
        lead = self._ids("\n", add_special_tokens=False)
        changes = behind[: len(lead)] == lead and behind[len(lead) :] != alone
        return "\n" if changes else ""

    def _encode_uncached(self, text: str) -> tuple[int, ...]:
        if not self._lead:
            return self._ids(text, add_special_tokens=False)
        lead = self._ids(self._lead, add_special_tokens=False)
        ids = self._ids(self._lead + text, add_special_tokens=False)
        return ids[len(lead) :] if ids[: len(lead)] == lead else ids

    def _ids(self, text: str, *, add_special_tokens: bool) -> tuple[int, ...]:
        # verbose=False: no warning about long texts; the engine checks its context itself.
        encoded = self._tokenizer(text, add_special_tokens=add_special_tokens, verbose=False)
        return tuple(encoded["input_ids"])


def _as_templates_expect(message: Message, conversation: Sequence[Message]) -> dict[str, Any]:
    """Return a message in the form of Hugging Face chat templates."""
    found: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        found["tool_calls"] = [
            {
                "type": "function",
                "id": call.id,
                "function": {"name": call.name, "arguments": json.loads(call.arguments)},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        calls = (call for one in conversation for call in one.tool_calls)
        names = (call.name for call in calls if call.id == message.tool_call_id)
        found |= {"tool_call_id": message.tool_call_id, "name": next(names, "")}
    return found
