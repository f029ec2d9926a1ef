"""From a response to an `AIMessage`, whole or in chunks: words, calls, usage and provenance.

The same steps make both, so chunks add up to the message. Knows nothing of models.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, cast

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    InvalidToolCall,
    ToolCall,
    ToolCallChunk,
)
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import (
    invalid_tool_call,
    tool_call,
    tool_call_chunk,
)

from langgraph_switch.chat.calls import CallReader, CallScanner, ParsedCall
from langgraph_switch.seeds import derive_seed
from langgraph_switch.streaming import Event
from langgraph_switch.trace import Segment, Trace
from langgraph_switch.usage import usage

_PIECE = ("segment", "speaker", "decided_by", "probabilities", "text")


class Reply:
    """One response on its way to LangChain."""

    def __init__(
        self, *, model_name: str, callers: Sequence[str] = (), reader: CallReader | None = None
    ) -> None:
        """Begin a message.

        Args:
            model_name: What the message says who wrote it.
            callers: Candidates whose calls of tools count; empty where there are no tools.
            reader: Tells words from calls.
        """
        self._callers = frozenset(callers)
        self._model_name = model_name
        self._reader = reader or CallScanner()

    def message(self, trace: Trace) -> AIMessage:
        """Return a finished response as a message."""
        pieces = [_piece(number, segment) for number, segment in enumerate(trace.segments)]
        words = [self._words(piece["speaker"], piece["text"]) for piece in pieces]
        content = "".join([*words, self._last_words()])
        calls, invalid = self._calls(trace)
        return AIMessage(
            content=content,
            tool_calls=calls,
            invalid_tool_calls=invalid,
            usage_metadata=_usage_metadata(trace),
            response_metadata=self._metadata(trace) | {"provenance": _merged(pieces)},
        )

    def chunk(self, event: Event) -> AIMessageChunk | None:
        """Return what LangChain hears of an event, if anything."""
        if event["type"] == "text":
            piece = {key: event[key] for key in _PIECE}  # type: ignore[literal-required]
            return AIMessageChunk(
                content=self._words(event["speaker"], event["text"]),
                response_metadata={"provenance": [piece]},
            )
        if event["type"] == "end":
            return self._last_chunk(Trace.from_json(event["data"]))
        return None

    def _last_chunk(self, trace: Trace) -> AIMessageChunk:
        content = self._last_words()
        return AIMessageChunk(
            content=content,
            tool_call_chunks=list(self._call_chunks(trace)),
            usage_metadata=_usage_metadata(trace),
            response_metadata=self._metadata(trace),
            chunk_position="last",
        )

    def _words(self, speaker: str, text: str) -> str:
        if not self._callers:
            return text
        return self._reader.push(text, may_call=speaker in self._callers)

    def _last_words(self) -> str:
        return self._reader.finish() if self._callers else ""

    def _calls(self, trace: Trace) -> tuple[list[ToolCall], list[InvalidToolCall]]:
        calls, invalid = [], []
        for number, call in enumerate(self._reader.calls):
            call_id = _call_id(trace, number)
            if call.arguments is not None and call.name is not None:
                calls.append(tool_call(name=call.name, args=call.arguments, id=call_id))
            else:
                invalid.append(
                    invalid_tool_call(name=call.name, args=call.raw, id=call_id, error=call.error)
                )
        return calls, invalid

    def _call_chunks(self, trace: Trace) -> Iterator[ToolCallChunk]:
        for number, call in enumerate(self._reader.calls):
            yield tool_call_chunk(
                name=call.name or "",
                args=_arguments(call),
                id=_call_id(trace, number),
                index=number,
            )

    def _metadata(self, trace: Trace) -> dict[str, Any]:
        has_calls = any(call.arguments is not None for call in self._reader.calls)
        return {
            "model_name": self._model_name,
            "model_provider": "langgraph_switch",
            "finish_reason": "tool_calls" if has_calls else trace.finish_reason,
            "seed": trace.seed,
            "output_tokens_by_candidate": trace.tokens_by_speaker(),
        }


def provenance(message: BaseMessage) -> list[dict[str, Any]]:
    """Return who wrote what of a message: a dict per segment, in order.

    Works on messages that were invoked and on chunks that were added up. Each segment has
    `segment`, `speaker`, `decided_by`, `probabilities` and its `text` as written, calls of tools
    included.
    """
    return _merged(message.response_metadata.get("provenance", []))


def _merged(pieces: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the pieces with those of one segment put together, without empty ones."""
    merged = []
    for _, group in groupby(pieces, key=lambda piece: piece["segment"]):
        same = list(group)
        text = "".join(piece["text"] for piece in same)
        if text:
            merged.append(same[0] | {"text": text})
    return merged


def _piece(number: int, segment: Segment) -> dict[str, Any]:
    probabilities = segment.probabilities
    return {
        "segment": number,
        "speaker": segment.speaker,
        "decided_by": segment.decided_by,
        "probabilities": None if probabilities is None else list(probabilities),
        "text": segment.text,
    }


def _usage_metadata(trace: Trace) -> UsageMetadata:
    found = usage(trace)
    first = trace.segments[0].cached_tokens if trace.segments else 0
    counts = {key: found[key] for key in ("input_tokens", "output_tokens", "total_tokens")}
    details = {"input_token_details": {"cache_read": first}}
    return cast("UsageMetadata", counts | details)


def _arguments(call: ParsedCall) -> str:
    """Return a call's arguments as chunks carry them.

    LangChain parses them again. A broken call begins with its mark, so it stays broken.
    """
    if call.arguments is None:
        return call.raw
    return json.dumps(call.arguments, ensure_ascii=False)


def _call_id(trace: Trace, number: int) -> str:
    """Return a call's id: the same for the same response, another one for every other."""
    return f"{derive_seed(trace.seed, trace.trace_id, number, 'call'):016x}"[-9:]
