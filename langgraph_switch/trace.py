"""A response as a trace: which candidate wrote which segment, and who decided so.

Frozen values that become plain JSON types and come back equal, so that they survive every
LangGraph serialiser. This module knows nothing of models, graphs or tokenizers.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self, TypeAlias, get_args

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]
DecidedBy: TypeAlias = Literal["anchor", "switcher", "random", "fixed", "cue", "failover"]
SegmentEnd: TypeAlias = Literal["length", "sentence", "eos", "stop"]
ResponseEnd: TypeAlias = Literal["length", "eos", "stop", "silence"]

ROLES: frozenset[str] = frozenset(get_args(Role))


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of the conversation that the response answers."""

    role: Role
    content: str

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Rebuild a message from `asdict`'s output."""
        return cls(**data)


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
    """Why the speaker stopped: segment length, a sentence's end, its EOS, or a stop string."""
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
    segments: tuple[Segment, ...] = ()
    finish_reason: ResponseEnd | None = None
    """Why the response ended; None while it is in progress."""

    @property
    def query(self) -> str:
        """The question as one text: the user's words, or the whole conversation."""
        if len(self.messages) == 1 and self.messages[0].role == "user":
            return self.messages[0].content
        return "\n\n".join(f"{m.role.capitalize()}: {m.content}" for m in self.messages)

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
        return {
            "messages": [asdict(message) for message in self.messages],
            "trace_id": self.trace_id,
            "seed": self.seed,
            "max_tokens": self.max_tokens,
            "stop": list(self.stop),
            "temperature": self.temperature,
            "segments": [segment.to_json() for segment in self.segments],
            "finish_reason": self.finish_reason,
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
            segments=tuple(Segment.from_json(segment) for segment in data["segments"]),
            finish_reason=data["finish_reason"],
        )
