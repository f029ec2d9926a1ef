"""Runs of the state machine for a caller: queries in, finished traces or events out.

Whatever way a run ends, nothing of it stays in the engines. Awaited runs wait in threads of their
own, so that many of them meet in the engines and are computed as one batch. Knows nothing of
LangChain's models.
"""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import AsyncGenerator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.config import get_stream_writer

from langgraph_switch.graph import SwitchGraph, build_graph, recursion_limit, row_name
from langgraph_switch.queries import trace_from_query
from langgraph_switch.state import SwitchInput
from langgraph_switch.streaming import Event
from langgraph_switch.switch import Switch
from langgraph_switch.trace import Trace


class SwitchRuns:
    """Answers queries by the state machine of a switch. Thread-safe."""

    def __init__(self, switch: Switch) -> None:
        self._switch = switch
        self._threads = ThreadPoolExecutor(
            switch.config.limits.live_traces, thread_name_prefix="switch"
        )
        self._building = threading.Lock()
        self._graphs: dict[tuple[bool, bool], SwitchGraph] = {}

    def finish(self, queries: Sequence[Any]) -> list[Trace]:
        """Return the finished traces of queries, in order.

        Raises:
            SwitchError: What the state machine raises.
        """
        call, config = self._call(queries)
        try:
            output = self._graph(tells_text=_may_be_heard()).invoke(call, config)
        finally:
            self._release(call)
        return [Trace.from_json(trace) for trace in output["traces"]]

    async def afinish(self, queries: Sequence[Any]) -> list[Trace]:
        """Do as `finish` without blocking the event loop."""
        call, config = self._call(queries)
        try:
            graph = self._graph(tells_text=_may_be_heard(), is_awaited=True)
            output = await graph.ainvoke(call, config)
        finally:
            await asyncio.to_thread(self._release, call)
        return [Trace.from_json(trace) for trace in output["traces"]]

    def events(self, query: Any) -> Iterator[Event]:
        """Yield what happens while a query is answered."""
        call, config = self._call([query])
        try:
            events: Any = self._graph().stream(call, config, stream_mode="custom")
            yield from events
        finally:
            self._release(call)

    async def aevents(self, query: Any) -> AsyncGenerator[Event, None]:
        """Do as `events` without blocking the event loop."""
        call, config = self._call([query])
        graph = self._graph(is_awaited=True)
        events: Any = graph.astream(call, config, stream_mode="custom")
        try:
            async with aclosing(events):
                async for event in events:
                    yield event
        finally:
            await asyncio.to_thread(self._release, call)

    def _graph(self, *, tells_text: bool = True, is_awaited: bool = False) -> SwitchGraph:
        key = (tells_text, is_awaited)
        with self._building:
            if key not in self._graphs:
                # Inside somebody's graph a run is one call, not a subgraph: no checkpointer.
                self._graphs[key] = build_graph(
                    self._switch,
                    checkpointer=False,
                    threads=self._threads if is_awaited else None,
                    tells_text=tells_text,
                )
            return self._graphs[key]

    def _call(self, queries: Sequence[Any]) -> tuple[SwitchInput, RunnableConfig]:
        config = self._switch.config
        traces = [trace_from_query(query, config) for query in queries]
        longest = max((trace.max_tokens for trace in traces), default=1)
        limit = recursion_limit(config, len(queries), longest)
        # Callbacks hear of a model's tokens; of our steps only those of a graph around us.
        run_config = RunnableConfig(recursion_limit=limit, callbacks=[])
        return SwitchInput(queries=list(queries), run_id=uuid.uuid4().hex), run_config

    def _release(self, call: SwitchInput) -> None:
        rows = [row_name(call["run_id"], index) for index in range(len(call["queries"]))]
        self._switch.release(rows)


def _may_be_heard() -> bool:
    """Return whether this call is made inside a graph, whose custom stream hears of our text."""
    try:
        get_stream_writer()
    except (RuntimeError, KeyError):  # Outside of any runnable, or inside one that is no graph.
        return False
    return True
