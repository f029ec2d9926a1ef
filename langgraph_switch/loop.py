"""Continue many traces to their end, outside of a graph: for rollouts and evaluation.

The same steps as the state machine (decide, write, append) over a `Switch`, without a state to be
serialised. As a trace ends the next one joins in. Knows nothing of scores or files.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from langgraph_switch.switch import Switch
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
        live_traces: How many are in progress at the same time; by default the switch's limit.
        on_end: Called with the index of a trace and the finished trace.

    Returns:
        The finished traces, in the order of `turns`.
    """
    traces = [turn.trace for turn in turns]
    waiting = deque(index for index, trace in enumerate(traces) if not trace.is_finished)
    limit = live_traces or switch.config.limits.live_traces
    live: list[int] = []
    while waiting or live:
        while waiting and len(live) < limit:
            live.append(waiting.popleft())
        current = [replace(turns[index], trace=traces[index]) for index in live]
        for index, trace in zip(live, next_segments(switch, current), strict=True):
            traces[index] = trace
        ended = [index for index in live if traces[index].is_finished]
        switch.release([turns[index].row for index in ended])
        live = [index for index in live if not traces[index].is_finished]
        for index in ended:
            if on_end is not None:
                on_end(index, traces[index])
    return traces


def next_segments(switch: Switch, turns: Sequence[Turn]) -> list[Trace]:
    """Let every trace have its next segment: one decision for all, one batch per speaker."""
    decisions = switch.decide(turns)
    by_speaker: dict[str, list[int]] = defaultdict(list)
    for index, decision in enumerate(decisions):
        by_speaker[decision.speaker].append(index)
    grown = [turn.trace for turn in turns]
    for speaker, indices in by_speaker.items():
        ready = switch.with_cues(speaker, [turns[index] for index in indices])
        drafts = switch.write(speaker, ready, [decisions[index] for index in indices])
        for index, turn, draft in zip(indices, ready, drafts, strict=True):
            grown[index] = switch.append(turn.trace, draft)
    return grown
