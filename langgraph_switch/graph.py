"""The state machine: decide -> generate (one node per candidate) -> append, until all have ended.

One run answers a batch of queries. Its state holds traces and counters; engines stay outside.
Knows nothing of where tokens come from, nor of LangChain.
"""

from __future__ import annotations

import asyncio
import contextvars
import uuid
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Executor
from dataclasses import asdict
from typing import Any, TypeAlias, TypeVar

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from langgraph.types import Checkpointer, Command, StreamWriter

from langgraph_switch.config import SwitchConfig
from langgraph_switch.context import MakeSwitch, SwitchContext, SwitchVariants, with_defaults
from langgraph_switch.engines.base import NewToken
from langgraph_switch.engines.sharing import Gathering
from langgraph_switch.errors import EngineError, GenerationError, InputError
from langgraph_switch.floor import Decision, is_stuck
from langgraph_switch.queries import trace_from_query
from langgraph_switch.state import (
    Beginning,
    Ending,
    Growth,
    SwitchInput,
    SwitchOutput,
    SwitchState,
    TraceUpdate,
)
from langgraph_switch.streaming import (
    EndEvent,
    SegmentEvent,
    TextEmitter,
    decision_event,
)
from langgraph_switch.switch import Draft, Switch
from langgraph_switch.switchers.base import Turn
from langgraph_switch.trace import Segment, Trace

_T = TypeVar("_T")
SwitchGraph: TypeAlias = CompiledStateGraph[SwitchState, SwitchContext, SwitchInput, SwitchOutput]
_Step: TypeAlias = dict[str, Any] | Command[Any]
"""What a node changes, and where to go on if no edge says so."""
_Node: TypeAlias = Callable[[SwitchState, Runtime[SwitchContext]], _Step]
_AwaitedNode: TypeAlias = Callable[
    [SwitchState, Runtime[SwitchContext]], Coroutine[Any, Any, _Step]
]

DECIDE, APPEND, PREPARE = "decide", "append", "prepare"


def build_graph(
    switch: Switch | MakeSwitch,
    *,
    names: Sequence[str] | None = None,
    checkpointer: Checkpointer = None,
    threads: Executor | None = None,
    tells_text: bool = True,
) -> SwitchGraph:
    """Compile the state machine of a switch.

    A run needs about three super-steps per segment. LangGraph stops after 25 of them when a
    graph is called through another runnable, so pass `{"recursion_limit": N}` with every call;
    `recursion_limit` below gives a sufficient N.

    Args:
        switch: The candidates, the switcher and the rules; or how to load them, called by the
            first run.
        names: The candidates of a switch that is not loaded yet.
        checkpointer: Makes runs resumable: after a crash, `invoke(None, config)` goes on.
            False: never use the one of a graph that this one runs in.
        threads: Where the steps of awaited runs work; such a graph can only be awaited. Without,
            a graph can be called either way, and awaited runs share the event loop's few threads.
        tells_text: Whether text is told as it is written; where nobody listens to the custom
            stream this only costs time.
    """
    graph = StateGraph(
        SwitchState,
        context_schema=SwitchContext,
        input_schema=SwitchInput,
        output_schema=SwitchOutput,
    )
    load = (lambda: switch) if isinstance(switch, Switch) else switch
    names = switch.config.names if isinstance(switch, Switch) else names or ()
    nodes = _Nodes(load, tells_text=tells_text)

    def add(name: str, node: _Node, goto: Sequence[str] = ()) -> None:
        action: Any = node if threads is None else _awaited(node, threads)
        graph.add_node(name, action, destinations=tuple(goto) or None)

    # Who says where to go on by a command costs less than an edge that reads the state again.
    add(PREPARE, nodes.prepare)
    add(DECIDE, nodes.decide, goto=[generate_node(name) for name in names])
    add(APPEND, nodes.append, goto=[DECIDE, END])
    graph.add_edge(START, PREPARE)
    graph.add_edge(PREPARE, DECIDE)
    for name in names:
        add(generate_node(name), nodes.generate(name))
        graph.add_edge(generate_node(name), APPEND)
    return graph.compile(checkpointer=checkpointer, name="switch")


def _awaited(node: _Node, threads: Executor) -> _AwaitedNode:
    """Return a node as a coroutine that waits for a thread.

    A step at work cannot be broken off: a cancelled run ends when the step has ended, so that
    nothing of it comes into the engines later on.
    """

    async def call(state: SwitchState, runtime: Runtime[SwitchContext]) -> _Step:
        work = threads.submit(contextvars.copy_context().run, node, state, runtime)
        done = asyncio.wrap_future(work)
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            work.cancel()  # Unless it has begun.
            await asyncio.wait([done])
            raise

    return call


def generate_node(candidate: str) -> str:
    """Return the name of the node in which a candidate writes."""
    return f"generate_{candidate}"


def recursion_limit(config: SwitchConfig, num_queries: int, max_tokens: int | None = None) -> int:
    """Return enough super-steps for a run, whatever its segments turn out to be.

    In the worst case every segment has one token and every other candidate is silent before it.
    """
    longest = max_tokens or config.max_tokens
    # In the worst case memory holds one trace at a time.
    return 10 + 3 * num_queries * longest * len(config.candidates)


class _Nodes:
    """The steps of the machine, over one switch."""

    def __init__(self, load: MakeSwitch, *, tells_text: bool) -> None:
        self._variants = SwitchVariants(load)
        self._tells_text = tells_text
        self._gathering = Gathering()

    def prepare(self, state: SwitchState, runtime: Runtime[SwitchContext]) -> dict[str, Any]:
        """Turn queries into traces; every seed that was left open is drawn here, once."""
        queries = state["queries"]
        if not isinstance(queries, list | tuple) or not queries:
            raise InputError(
                "`queries` must be a list with at least one query.",
                hint='pass {"queries": ["How many legs does a spider have?"]}',
            )
        switch = self._variants.switch(runtime.context)
        asked = [with_defaults(query, runtime.context) for query in queries]
        traces = [trace_from_query(query, switch.config) for query in asked]
        for trace in traces:
            switch.check(trace)
        beginning = Beginning(traces=[trace.to_json() for trace in traces])
        return {
            "run_id": state.get("run_id") or uuid.uuid4().hex,
            "num_live": switch.num_live(traces),
            "traces": [beginning],
        }

    def decide(self, state: SwitchState, runtime: Runtime[SwitchContext]) -> Command[Any]:
        """Choose the next speaker of every live trace."""
        switch = self._variants.switch(runtime.context)
        live = _live_traces(state, switch.config)
        turns = [_turn(state, index, trace) for index, trace in live]
        decisions = _keeping_traces(state, lambda: switch.decide(turns))
        for (index, trace), decision in zip(live, decisions, strict=True):
            runtime.stream_writer(decision_event(index, trace, decision))
        pairs = zip(live, decisions, strict=True)
        chosen = {decision.speaker for decision in decisions}
        return Command(
            update={"decisions": [{"index": i} | asdict(decision) for (i, _), decision in pairs]},
            goto=[generate_node(name) for name in switch.config.names if name in chosen],
        )

    def generate(self, speaker: str) -> _Node:
        """Return the node in which one candidate writes all the segments it was chosen for."""

        def generate(state: SwitchState, runtime: Runtime[SwitchContext]) -> dict[str, Any]:
            switch, writer = self._variants.switch(runtime.context), runtime.stream_writer
            chosen = [d for d in state["decisions"] if d["speaker"] == speaker]
            indices = [decision["index"] for decision in chosen]
            decisions = [_decision(decision) for decision in chosen]
            before = [Trace.from_json(state["traces"][index]) for index in indices]
            turns = switch.with_cues(
                speaker, [_turn(state, i, t) for i, t in zip(indices, before, strict=True)]
            )
            emitters = [TextEmitter(i, t, writer) for i, t in zip(indices, before, strict=True)]
            for emitter, old, turn in zip(emitters, before, turns, strict=True):
                for number in range(len(old.segments), len(turn.trace.segments)):
                    cue = turn.trace.segments[number]
                    emitter.push(number, cue, cue.text)

            def on_token(position: int, token: NewToken) -> None:
                number = len(turns[position].trace.segments)
                emitters[position].push(number, decisions[position], token.text)

            listener = on_token if self._tells_text else None
            rendezvous = self._gathering.join(_step(state), _partners(switch, state, speaker))
            drafts = _keeping_traces(
                state,
                lambda: switch.write(speaker, turns, decisions, listener, rendezvous=rendezvous),
            )
            return {
                "drafts": [
                    _draft_json(index, turn.trace.segments[len(old.segments) :], draft)
                    for index, old, turn, draft in zip(indices, before, turns, drafts, strict=True)
                ]
            }

        return generate

    def append(self, state: SwitchState, runtime: Runtime[SwitchContext]) -> Command[Any]:
        """Append what was written, end what has ended, and free its rows."""
        switch, writer = self._variants.switch(runtime.context), runtime.stream_writer
        updates: list[TraceUpdate] = []
        ended_rows: list[str] = []
        for written in sorted(state["drafts"], key=lambda one: int(one["index"])):
            index = written["index"]
            before = Trace.from_json(state["traces"][index])
            *cues, segment = (Segment.from_json(one) for one in written["segments"])
            trace = before
            for cue in cues:
                trace = trace.append(cue)
            grown = trace.append(segment)
            trace = switch.append(trace, Draft(segment, written["pending_text"]))
            new = [one.to_json() for one in trace.segments[len(before.segments) :]]
            for number, data in enumerate(new, start=len(before.segments)):
                writer(SegmentEvent(type="segment", trace=index, segment=number, data=data))
            if not trace.is_finished:
                updates.append(Growth(index=index, segments=new))
                continue
            if trace.finish_reason != "stop":
                _show_rest(index, grown, trace, writer)
            updates.append(Ending(index=index, trace=trace.to_json()))
            ended_rows.append(_row(state, index))
            writer(EndEvent(type="end", trace=index, data=trace.to_json()))
        switch.release(ended_rows)
        num_ended = len(ended_rows) + sum(bool(one["finish_reason"]) for one in state["traces"])
        goto = END if num_ended == len(state["traces"]) else DECIDE
        return Command(update={"traces": updates, "decisions": []}, goto=goto)


def _live_traces(state: SwitchState, config: SwitchConfig) -> list[tuple[int, Trace]]:
    """Return the first unfinished traces: as one ends, the next of the queue joins in.

    Traces for which everybody has failed wait until the others have ended.
    """
    live: list[tuple[int, Trace]] = []
    stuck: list[tuple[int, Trace]] = []
    for index, data in enumerate(state["traces"]):
        if data["finish_reason"] or len(live) == state["num_live"]:
            continue
        trace = Trace.from_json(data)
        (stuck if is_stuck(trace, config) else live).append((index, trace))
    return live or stuck


def row_name(run_id: str, index: int) -> str:
    """Return the name of the rows that engines keep for one trace of a run."""
    return f"{run_id}/{index}"


def _row(state: SwitchState, index: int) -> str:
    return row_name(state["run_id"], index)


def _turn(state: SwitchState, index: int, trace: Trace) -> Turn:
    return Turn(trace=trace, row=_row(state, index))


def _decision(data: dict[str, Any]) -> Decision:
    fields = {key: value for key, value in data.items() if key != "index"}
    if fields["probabilities"] is not None:
        fields["probabilities"] = tuple(fields["probabilities"])
    return Decision(**fields)


def _step(state: SwitchState) -> tuple[str, int]:
    """Return what tells a super-step of a run from any other."""
    return state["run_id"], sum(len(trace["segments"]) for trace in state["traces"])


def _partners(switch: Switch, state: SwitchState, speaker: str) -> tuple[str, ...]:
    """Return who writes in this super-step and can share a pass with a speaker, itself included."""
    speakers = list(dict.fromkeys(decision["speaker"] for decision in state["decisions"]))
    return next(tuple(one) for one in switch.writing_together(speakers) if speaker in one)


def _draft_json(index: int, cues: Sequence[Segment], draft: Draft) -> dict[str, Any]:
    segments = [segment.to_json() for segment in (*cues, draft.segment)]
    return {"index": index, "segments": segments, "pending_text": draft.pending_text}


def _show_rest(index: int, grown: Trace, ended: Trace, writer: StreamWriter) -> None:
    """Show what was held back as a possible stop string, or as half a character."""
    emitter = TextEmitter(index, grown, writer)
    last = len(ended.segments) - 1
    emitter.push(last, ended.segments[last], ended.text[len(grown.text) :])
    emitter.flush()


def _keeping_traces(state: SwitchState, work: Callable[[], _T]) -> _T:
    """Do a step; if an engine fails, the error carries every trace as far as it came."""
    try:
        return work()
    except (EngineError, InputError) as err:
        traces = [Trace.from_json(trace) for trace in state["traces"]]
        raise GenerationError(
            f"The response broke off. {err.message}",
            traces=traces,
            hint=err.hint,
            retryable=err.retryable,
        ) from err
