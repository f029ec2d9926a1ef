"""What a run tells while it goes on, and which text may already be shown.

Text that could still become a stop string is held back, so nothing shown is ever taken back.
Knows nothing of engines or LangGraph.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, TypedDict

from langgraph_switch.floor import Decision
from langgraph_switch.stops import find_stop, held_length
from langgraph_switch.trace import Segment, Trace


class DecisionEvent(TypedDict):
    """A candidate has got the floor."""

    type: Literal["decision"]
    trace: int
    segment: int
    speaker: str
    decided_by: str
    probabilities: list[float] | None


class TextEvent(TypedDict):
    """Text that a segment's speaker has written; never empty."""

    type: Literal["text"]
    trace: int
    segment: int
    speaker: str
    decided_by: str
    probabilities: list[float] | None
    text: str


class SegmentEvent(TypedDict):
    """A segment is complete; `data` is `Segment.to_json()`."""

    type: Literal["segment"]
    trace: int
    segment: int
    data: dict[str, Any]


class EndEvent(TypedDict):
    """A response has ended; `data` is `Trace.to_json()`."""

    type: Literal["end"]
    trace: int
    data: dict[str, Any]


Event: TypeAlias = DecisionEvent | TextEvent | SegmentEvent | EndEvent
Write: TypeAlias = Callable[[Event], None]
Source: TypeAlias = Decision | Segment
"""What says who writes a segment, before it is written and after."""


def decision_event(index: int, trace: Trace, decision: Decision) -> DecisionEvent:
    """Return the event of a decision about a trace's next segment."""
    return DecisionEvent(
        type="decision",
        trace=index,
        segment=len(trace.segments),
        speaker=decision.speaker,
        decided_by=decision.decided_by,
        probabilities=_listed(decision.probabilities),
    )


class TextEmitter:
    """Shows a trace's text as it is written.

    Made anew for every segment from the trace alone: what an earlier segment held back follows
    from its text, so streaming needs no memory of its own and survives a resume.
    """

    def __init__(self, index: int, trace: Trace, write: Write) -> None:
        self._index = index
        self._stop = trace.stop
        self._write = write
        self._longest = max(map(len, trace.stop), default=0)
        self._tail = trace.text[-self._longest :] if trace.stop else ""
        self._held: deque[tuple[int, Source, str]] = deque()
        left = held_length(self._tail, self._stop)
        for number, segment in reversed(list(enumerate(trace.segments))):
            if not left:
                break
            if piece := segment.text[-left:]:
                self._held.appendleft((number, segment, piece))
                left -= len(piece)

    def push(self, segment: int, source: Source, text: str) -> None:
        """Take new text, and show what can be shown."""
        if not text:
            return
        if not self._stop:  # Then nothing is ever held.
            self._emit(segment, source, text)
            return
        self._held.append((segment, source, text))
        before = len(self._tail)
        self._tail += text
        stopped_at = find_stop(self._tail, self._stop, start=before)
        if stopped_at is not None and source.decided_by != "cue":  # No more will be shown.
            self._release(keep=len(self._tail) - stopped_at)
            return
        self._release(keep=held_length(self._tail, self._stop))
        self._tail = self._tail[-self._longest :]

    def flush(self) -> None:
        """Show what is held: the response has ended without a stop string."""
        self._release(keep=0)

    def _release(self, *, keep: int) -> None:
        left = sum(len(text) for _, _, text in self._held) - keep
        while left > 0:
            segment, source, text = self._held.popleft()
            if len(text) > left:
                self._held.appendleft((segment, source, text[left:]))
            self._emit(segment, source, text[:left])
            left -= len(text)

    def _emit(self, segment: int, source: Source, text: str) -> None:
        self._write(
            TextEvent(
                type="text",
                trace=self._index,
                segment=segment,
                speaker=source.speaker,
                decided_by=source.decided_by,
                probabilities=_listed(source.probabilities),
                text=text,
            )
        )


def _listed(probabilities: tuple[float, ...] | None) -> list[float] | None:
    return None if probabilities is None else list(probabilities)
