"""A response as a trace: which candidate wrote which segment, and who decided so.

Frozen values that become plain JSON types and come back equal, so that they survive every
LangGraph serialiser. This module knows nothing of models, graphs or tokenizers.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self, TypeAlias, get_args

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]
DecidedBy: TypeAlias = Literal["anchor", "switcher", "random", "fixed", "cue", "failover", "block"]
SegmentEnd: TypeAlias = Literal["length", "boundary", "eos", "stop", "grammar", "failed"]
ResponseEnd: TypeAlias = Literal["length", "eos", "stop", "silence", "grammar"]

ROLES: frozenset[str] = frozenset(get_args(Role))


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A tool that an assistant's message has called."""

    id: str
    name: str
    arguments: str
    """A JSON object as text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of the conversation that the response answers."""

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    """What an assistant's message has called, in order."""
    tool_call_id: str | None = None
    """Which call a tool's message answers."""

    @property
    def text(self) -> str:
        """The message as plain text, its calls written out."""
        calls = [call_text(one.name, one.arguments) for one in self.tool_calls]
        return "\n".join([self.content, *calls] if self.content else calls)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Rebuild a message from `to_json`'s output."""
        calls = tuple(ToolCall(**call) for call in data.get("tool_calls", ()))
        return cls(**(data | {"tool_calls": calls}))

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types, without what is not there."""
        fields: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.tool_calls:
            fields["tool_calls"] = [asdict(call) for call in self.tool_calls]
        if self.tool_call_id is not None:
            fields["tool_call_id"] = self.tool_call_id
        return fields


def call_text(name: str, arguments: str) -> str:
    """Return a tool call as text, in the form that most open models write (Hermes)."""
    name_json = json.dumps(name, ensure_ascii=False)
    return f'<tool_call>\n{{"name": {name_json}, "arguments": {arguments}}}\n</tool_call>'


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """What one candidate wrote while it had the floor."""

    speaker: str
    """Name of the candidate."""
    text: str
    """Complete characters only; ends before a stop string."""
    token_ids: tuple[int, ...]
    """Tokens as generated, in the speaker's vocabulary, without its EOS."""
    tokenizer: str
    """Fingerprint of the tokenizer whose vocabulary `token_ids` belong to."""
    decided_by: DecidedBy
    """Who gave the speaker the floor."""
    finish_reason: SegmentEnd
    """Why the speaker stopped: segment length, a boundary (the end of a sentence, say), its EOS,
    a stop string, the end of the grammar, or because it failed; then this is what it had shown."""
    probabilities: tuple[float, ...] | None = None
    """The switcher's probability per candidate, in the configuration's order."""
    decide_s: float = 0.0
    """Seconds of this decision."""
    generate_s: float = 0.0
    """Seconds of the engine call that wrote this segment (shared by its whole batch)."""
    prefill_tokens: int = 0
    """Tokens the speaker computed to catch up with what others wrote."""
    cached_tokens: int = 0
    """Tokens of the prefix whose keys and values the speaker still had."""

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Rebuild a segment from plain JSON types (tuples may have become lists)."""
        fields = dict(data)
        fields["token_ids"] = tuple(data["token_ids"])
        if (probabilities := data.get("probabilities")) is not None:
            fields["probabilities"] = tuple(probabilities)
        return cls(**fields)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        fields = {name: getattr(self, name) for name in self.__slots__}  # asdict copies: slow.
        return fields | {"token_ids": list(self.token_ids)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One response, finished or in progress, with everything that led to it."""

    messages: tuple[Message, ...]
    trace_id: str
    """Names the trace in every random draw; equal ids and seeds give equal draws."""
    seed: int
    max_tokens: int
    """Most tokens that the response may have."""
    stop: tuple[str, ...] = ()
    """Strings that end the response; never part of its text."""
    temperature: float | None = None
    """Overrides every candidate's temperature; 0 is greedy."""
    tools: tuple[str, ...] = ()
    """Tools that may be called: JSON schemas in OpenAI's form, as texts."""
    grammar: str | None = None
    """A Lark grammar (llguidance) that the whole response has to follow."""
    segments: tuple[Segment, ...] = ()
    finish_reason: ResponseEnd | None = None
    """Why the response ended; None while it is in progress."""

    @property
    def query(self) -> str:
        """The question as one text: the user's words, or the whole conversation."""
        if len(self.messages) == 1 and self.messages[0].role == "user":
            return self.messages[0].content
        return "\n\n".join(f"{m.role.capitalize()}: {m.text}" for m in self.messages)

    @property
    def text(self) -> str:
        """The response's text so far."""
        return "".join(segment.text for segment in self.segments)

    @property
    def num_tokens(self) -> int:
        """Tokens of the response so far, each counted in its speaker's vocabulary."""
        return sum(len(segment.token_ids) for segment in self.segments)

    @property
    def num_tokens_left(self) -> int:
        """Tokens that the response may still have."""
        return self.max_tokens - self.num_tokens

    @property
    def is_finished(self) -> bool:
        """Whether the response has ended."""
        return self.finish_reason is not None

    def append(self, segment: Segment) -> Self:
        """Return the trace with one more segment."""
        return replace(self, segments=(*self.segments, segment))

    def replace_last(self, *, text: str) -> Self:
        """Return the trace with its last segment's text replaced."""
        last = replace(self.segments[-1], text=text)
        return replace(self, segments=(*self.segments[:-1], last))

    def with_id(self, trace_id: str) -> Self:
        """Return the trace under another name."""
        return replace(self, trace_id=trace_id)

    def finish(self, reason: ResponseEnd) -> Self:
        """Return the trace as ended for a reason."""
        return replace(self, finish_reason=reason)

    def cut_text(self, num_characters: int) -> Self:
        """Return the trace with its text cut to a length; token ids stay as generated."""
        kept: list[Segment] = []
        left = num_characters
        for segment in self.segments:
            kept.append(replace(segment, text=segment.text[:left]))
            left = max(0, left - len(segment.text))
        return replace(self, segments=tuple(kept))

    def tokens_by_speaker(self) -> dict[str, int]:
        """Return how many tokens each candidate wrote, in order of first appearance."""
        counts: dict[str, int] = {}
        for segment in self.segments:
            counts[segment.speaker] = counts.get(segment.speaker, 0) + len(segment.token_ids)
        return counts

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types, with the text for readers."""
        rare = {"tools": list(self.tools), "grammar": self.grammar}
        return {
            "messages": [message.to_json() for message in self.messages],
            "trace_id": self.trace_id,
            "seed": self.seed,
            "max_tokens": self.max_tokens,
            "stop": list(self.stop),
            "temperature": self.temperature,
            "segments": [segment.to_json() for segment in self.segments],
            "finish_reason": self.finish_reason,
            **{name: value for name, value in rare.items() if value},
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Rebuild a trace from `to_json`'s output, after any JSON or msgpack round trip."""
        return cls(
            messages=tuple(Message.from_json(message) for message in data["messages"]),
            trace_id=data["trace_id"],
            seed=data["seed"],
            max_tokens=data["max_tokens"],
            stop=tuple(data["stop"]),
            temperature=data.get("temperature"),
            tools=tuple(data.get("tools", ())),
            grammar=data.get("grammar"),
            segments=tuple(Segment.from_json(segment) for segment in data["segments"]),
            finish_reason=data["finish_reason"],
        )
