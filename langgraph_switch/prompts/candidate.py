"""What a candidate reads: its own form of the conversation, then the raw response so far.

A chat candidate's assistant turn is opened once and continued, never closed and opened again.
Knows nothing of engines, switchers or graphs.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cached_property
from typing import Literal

from langgraph_switch.config import CandidateSpec
from langgraph_switch.engines.tokenizer import Tokenizer
from langgraph_switch.errors import ConfigError
from langgraph_switch.prompts.tools import (
    template_carries_results,
    template_carries_tools,
    with_results_as_text,
    with_tools_as_text,
)
from langgraph_switch.trace import Message, Trace


class SwitchWarning(UserWarning):
    """Something works, but perhaps not as its user expects."""


class CandidatePrompt:
    """Renders conversations for one candidate."""

    def __init__(
        self, spec: CandidateSpec, tokenizer: Tokenizer, *, may_call_tools: bool = True
    ) -> None:
        """Settle how the candidate reads.

        Args:
            spec: The candidate.
            tokenizer: Its tokenizer, with the chat template.
            may_call_tools: Whether it is told of tools.

        Raises:
            ConfigError: A chat is asked for and the tokenizer has no chat template.
        """
        self._spec = spec.prompt
        self._tokenizer = tokenizer
        self.kind = _settle_kind(spec, tokenizer)
        self._may_call_tools = may_call_tools

    @property
    def signature(self) -> str:
        """Equal for prompts that render every conversation alike."""
        if self.kind == "plain":
            return f"plain:{self._spec.plain_template}"
        return f"chat:{self.carries_tools}:{self._spec.system or ''}"

    @cached_property
    def carries_tools(self) -> bool:
        """Whether the candidate is told which tools there are."""
        if self.kind == "plain" or not self._may_call_tools:
            return False
        return self._spec.tools == "text" or template_carries_tools(self._tokenizer)

    @cached_property
    def _carries_results(self) -> bool:
        return template_carries_results(self._tokenizer)

    def encode(self, trace: Trace) -> tuple[int, ...]:
        """Return the ids of everything that stands before the response."""
        if self.kind == "plain":
            return self._tokenizer.encode_document(self.render(trace))
        return self._tokenizer.encode_chat(self.render(trace))

    def render(self, trace: Trace) -> str:
        """Return the text of everything that stands before the response."""
        if self.kind == "plain":
            return self._spec.plain_template.replace("{query}", trace.query)
        messages = self._with_system(trace.messages)
        if any(one.role == "tool" or one.tool_calls for one in messages):
            messages = messages if self._carries_results else with_results_as_text(messages)
        tools = trace.tools if self.carries_tools else ()
        if tools and self._spec.tools == "text":
            messages, tools = with_tools_as_text(messages, tools), ()
        return self._tokenizer.render_chat(messages, tools=tools)

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
