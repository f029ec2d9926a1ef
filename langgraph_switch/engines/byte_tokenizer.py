"""A tokenizer of 256 bytes and an end: any text round-trips, nothing is downloaded.

For tests and examples, together with `ScriptedEngine`. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Sequence

from langgraph_switch.trace import Message

EOS_ID = 256


class ByteTokenizer:
    """One token per UTF-8 byte; token 256 ends a text and has none."""

    def __init__(self, *, chat: bool = False) -> None:
        """Make one.

        Args:
            chat: Carry a simple chat template: `<|role|>`, a line break, the text, a line break.
        """
        self._chat = chat

    @property
    def fingerprint(self) -> str:
        """The same for all byte tokenizers."""
        return "bytes"

    @property
    def has_chat_template(self) -> bool:
        """Whether it was made with one."""
        return self._chat

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the text's UTF-8 bytes."""
        return tuple(text.encode("utf-8", "surrogatepass"))

    def encode_document(self, text: str) -> tuple[int, ...]:
        """Return the text's UTF-8 bytes: there is no BOS."""
        return self.encode(text)

    def render_chat(self, messages: Sequence[Message], *, tools: Sequence[str] = ()) -> str:
        """Return the dialogue with the assistant's turn opened; tools come first."""
        shown = [f"<|tools|>\n{tool}\n" for tool in tools]
        turns = [f"<|{message.role}|>\n{message.text}\n" for message in messages]
        return "".join([*shown, *turns, "<|assistant|>\n"])

    def encode_chat(self, text: str) -> tuple[int, ...]:
        """Return the text's UTF-8 bytes."""
        return self.encode(text)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of bytes; what is no UTF-8 becomes U+FFFD."""
        return bytes(i for i in token_ids if i < EOS_ID).decode("utf-8", "replace")
