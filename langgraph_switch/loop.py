"""Continue many traces to their end, outside of a graph: for rollouts and evaluation.

The same steps as the state machine (decide, write, append) over a `Switch`, without a state to be
serialised. As a trace ends the next one joins in. What greedy candidates would say to equal traces
is computed once: completions of one prefix often agree for a while. Knows nothing of scores or
files.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace

from langgraph_switch.errors import EngineError, GenerationError
from langgraph_switch.floor import Decision, is_stuck
from langgraph_switch.switch import Draft, Switch, Writing
from langgraph_switch.switchers.base import Turn
from langgraph_switch.trace import Trace


def finish_traces(
    switch: Switch,
    turns: Sequence[Turn],
    *,
    live_traces: int | None = None,
    on_end: Callable[[int, Trace], None] | None = None,
) -> list[Trace]:
    """Continue every trace until it ends; finished ones are returned as they are.

    Args:
        switch: Candidates, switcher and rules.
        turns: The traces, in any state, and the rows that engines keep for them.
        live_traces: How many are in progress at the same time; by default as many as the
            switch's limits allow.
        on_end: Called with the index of a trace and the finished trace.

    Returns:
        The finished traces, in the order of `turns`.

    Raises:
        GenerationError: An engine failed and nobody could go on; carries every trace. Traces that
            can be finished are finished first.
    """
    traces = [turn.trace for turn in turns]
    waiting = deque(index for index, trace in enumerate(traces) if not trace.is_finished)
    limit = live_traces or switch.num_live(traces)
    live: list[int] = []
    stuck: list[int] = []
    try:
        while waiting or live:
            while waiting and len(live) < limit:
                live.append(waiting.popleft())
            current = [replace(turns[index], trace=traces[index]) for index in live]
            for index, trace in zip(live, next_segments(switch, current), strict=True):
                traces[index] = trace
            ended = [index for index in live if traces[index].is_finished]
            switch.release([turns[index].row for index in ended])
            stuck += [index for index in live if is_stuck(traces[index], switch.config)]
            live = [i for i in live if not traces[i].is_finished and i not in stuck]
            for index in ended:
                if on_end is not None:
                    on_end(index, traces[index])
        if stuck:
            switch.decide([replace(turns[index], trace=traces[index]) for index in stuck])
    except EngineError as err:
        switch.release([turn.row for turn in turns])
        raise GenerationError(
            f"The response broke off. {err.message}",
            traces=traces,
            hint=err.hint,
            retryable=err.retryable,
        ) from err
    return traces


def next_segments(switch: Switch, turns: Sequence[Turn]) -> list[Trace]:
    """Let every trace have its next segment: one decision for all, one batch per base."""
    decisions = switch.decide(turns)
    by_speaker: dict[str, list[int]] = defaultdict(list)
    for index, decision in enumerate(decisions):
        by_speaker[decision.speaker].append(index)
    writings = [
        Writing(
            speaker,
            switch.with_cues(speaker, [turns[index] for index in indices]),
            [decisions[index] for index in indices],
        )
        for speaker, indices in by_speaker.items()
    ]
    written = _write_once(switch, writings)
    grown = [turn.trace for turn in turns]
    for indices, writing, drafts in zip(by_speaker.values(), writings, written, strict=True):
        for index, turn, draft in zip(indices, writing.turns, drafts, strict=True):
            grown[index] = switch.append(turn.trace, draft)
    return grown


def _write_once(switch: Switch, writings: Sequence[Writing]) -> list[list[Draft]]:
    """Return what candidates write, computed once for traces to which one must say the same."""
    places = [_places(switch, writing) for writing in writings]
    asked = [sorted(set(one)) for one in places]
    written = switch.write_all(
        [
            Writing(
                writing.speaker,
                [writing.turns[i] for i in indices],
                [writing.decisions[i] for i in indices],
            )
            for writing, indices in zip(writings, asked, strict=True)
        ]
    )
    found = [
        dict(zip(indices, drafts, strict=True))
        for indices, drafts in zip(asked, written, strict=True)
    ]
    return [
        [
            drafts[place] if place == i else _shared(drafts[place], writing.decisions[i])
            for i, place in enumerate(one)
        ]
        for writing, one, drafts in zip(writings, places, found, strict=True)
    ]


def _places(switch: Switch, writing: Writing) -> list[int]:
    """Return for each trace the first one to which the candidate must say the same."""
    first_with: dict[Hashable, int] = {}
    return [
        first_with.setdefault(_certain(switch, writing.speaker, turn.trace, i), i)
        for i, turn in enumerate(writing.turns)
    ]


def _certain(switch: Switch, speaker: str, trace: Trace, index: int) -> Hashable:
    """Return what is equal for traces whose continuation by a candidate is the same for certain."""
    if not switch.candidates[speaker].is_greedy_in(trace):
        return index
    said = tuple((one.speaker, one.token_ids, one.text) for one in trace.segments)
    return (trace.messages, trace.max_tokens, trace.stop, said)


def _shared(draft: Draft, decision: Decision) -> Draft:
    """Return a draft that was computed for another trace, under this one's own decision."""
    segment = replace(
        draft.segment,
        decided_by=decision.decided_by,
        probabilities=decision.probabilities,
        decide_s=decision.decide_s,
        prefill_tokens=0,
        cached_tokens=0,
    )
    return replace(draft, segment=segment)
