"""What the playground does: ask and watch, fork a response with another speaker.

Knows nothing of pages.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace

from langgraph_switch.errors import InputError
from langgraph_switch.floor import Decision
from langgraph_switch.loop import next_segments
from langgraph_switch.runs import SwitchRuns
from langgraph_switch.switch import Switch
from langgraph_switch.switchers.base import Turn
from langgraph_switch.trace import Segment, Trace


class Session:
    """A switch that answers questions of a page. Safe to share between its visitors."""

    def __init__(self, switch: Switch) -> None:
        self._switch = switch
        self._runs = SwitchRuns(switch)

    @property
    def names(self) -> tuple[str, ...]:
        """The candidates."""
        return self._switch.config.names

    def ask(self, question: str, *, temperature: float | None = None) -> Iterator[Trace]:
        """Yield the response as it grows, token by token; the last one is finished.

        Raises:
            SwitchError: What the state machine raises.
        """
        query = {"query": question, "temperature": temperature}
        texts: dict[int, str] = {}
        segments: dict[int, Segment] = {}
        for event in self._runs.events(query):
            if event["type"] == "text":
                number = event["segment"]
                texts[number] = texts.get(number, "") + event["text"]
                segments[number] = _being_written(event["speaker"], texts[number])
                yield _unfinished(question, segments)
            elif event["type"] == "segment":
                segments[event["segment"]] = Segment.from_json(event["data"])
            elif event["type"] == "end":
                yield Trace.from_json(event["data"])

    def fork(self, trace: Trace, number: int, speaker: str) -> Iterator[Trace]:
        """Yield a response as it would have gone on with another speaker, segment by segment.

        Args:
            trace: A finished response.
            number: Which segment somebody else writes; what stands before it stays.
            speaker: Who.

        Raises:
            InputError: There is no such segment or candidate.
        """
        if not 0 <= number < len(trace.segments):
            raise InputError("There is no segment to fork at.", hint="click a segment")
        if speaker not in self.names:
            raise InputError(f"There is no candidate {speaker!r}.", hint=f"use {self.names}")
        row = f"fork/{uuid.uuid4().hex}"
        prefix = replace(trace, segments=trace.segments[:number], finish_reason=None)
        try:
            decision = Decision(speaker=speaker, decided_by="fixed")
            ready = self._switch.with_cues(speaker, [Turn(prefix, row)])
            [draft] = self._switch.write(speaker, ready, [decision])
            grown = self._switch.append(ready[0].trace, draft)
            yield grown
            while not grown.is_finished:
                [grown] = next_segments(self._switch, [Turn(grown, row)])
                yield grown
        finally:
            self._switch.release([row])


def _being_written(speaker: str, text: str) -> Segment:
    return Segment(
        speaker=speaker,
        text=text,
        token_ids=(),
        tokenizer="",
        decided_by="switcher",
        finish_reason="length",
    )


def _unfinished(question: str, segments: dict[int, Segment]) -> Trace:
    """Return what there is to show so far; not a trace to go on with."""
    shown = Trace.from_json(
        {
            "messages": [{"role": "user", "content": question}],
            "trace_id": "",
            "seed": 0,
            "max_tokens": 1,
            "stop": [],
            "segments": [],
            "finish_reason": None,
        }
    )
    return replace(shown, segments=tuple(segments[number] for number in sorted(segments)))
