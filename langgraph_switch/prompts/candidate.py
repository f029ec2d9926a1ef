"""What a candidate reads: its own form of the conversation, then the raw response so far.

A chat candidate's assistant turn is opened once and continued, never closed and opened again.
Knows nothing of engines, switchers or graphs.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Literal

from langgraph_switch.config import CandidateSpec
from langgraph_switch.engines.tokenizer import Tokenizer
from langgraph_switch.errors import ConfigError
from langgraph_switch.trace import Message, Trace


class SwitchWarning(UserWarning):
    """Something works, but perhaps not as its user expects."""


class CandidatePrompt:
    """Renders conversations for one candidate."""

    def __init__(self, spec: CandidateSpec, tokenizer: Tokenizer) -> None:
        """Settle how the candidate reads.

        Raises:
            ConfigError: A chat is asked for and the tokenizer has no chat template.
        """
        self._spec = spec.prompt
        self._tokenizer = tokenizer
        self.kind = _settle_kind(spec, tokenizer)

    @property
    def signature(self) -> str:
        """Equal for prompts that render every conversation alike."""
        if self.kind == "plain":
            return f"plain:{self._spec.plain_template}"
        return f"chat:{self._spec.system or ''}"

    def encode(self, trace: Trace) -> tuple[int, ...]:
        """Return the ids of everything that stands before the response."""
        if self.kind == "plain":
            text = self._spec.plain_template.replace("{query}", trace.query)
            return self._tokenizer.encode_document(text)
        rendered = self._tokenizer.render_chat(self._with_system(trace.messages))
        return self._tokenizer.encode_chat(rendered)

    def _with_system(self, messages: Sequence[Message]) -> Sequence[Message]:
        if self._spec.system is None or messages[0].role == "system":
            return messages
        return (Message(role="system", content=self._spec.system), *messages)


def _settle_kind(spec: CandidateSpec, tokenizer: Tokenizer) -> Literal["chat", "plain"]:
    kind = spec.prompt.kind
    if kind == "chat" and not tokenizer.has_chat_template:
        raise ConfigError(
            f"Candidate {spec.name!r} is to read a chat, but its tokenizer has no chat template.",
            hint="set its prompt.kind to 'plain', or use a checkpoint with a chat template",
        )
    if kind != "auto":
        return kind
    if spec.role == "pretrained":  # Its role decides: many base models carry a template.
        return "plain"
    if tokenizer.has_chat_template:
        return "chat"
    warnings.warn(
        f"candidate {spec.name!r} has no chat template: it reads plain text "
        f"({spec.prompt.plain_template!r}). Set its prompt.kind to 'plain' to say so yourself.",
        SwitchWarning,
        stacklevel=4,
    )
    return "plain"
