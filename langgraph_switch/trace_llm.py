"""What LangChain sees of a switch: prompts in, text out, provenance beside it.

The base of `SwitchLLM` and `CheckpointLLM`. Knows nothing of models or of how a switch decides.
"""

from __future__ import annotations

import asyncio
import threading
import uuid
from abc import abstractmethod
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from functools import cached_property
from typing import Any, Self, TypeAlias, TypeVar

from langchain_core.callbacks import (
    AsyncCallbackManagerForLLMRun,
    CallbackManagerForLLMRun,
)
from langchain_core.language_models.llms import BaseLLM
from langchain_core.outputs import Generation, GenerationChunk, LLMResult
from langchain_core.runnables import RunnableConfig
from langgraph.graph.state import CompiledStateGraph
from pydantic import ConfigDict, PrivateAttr

from langgraph_switch._version import __version__
from langgraph_switch.config import SwitchConfig
from langgraph_switch.errors import InputError
from langgraph_switch.graph import build_graph, recursion_limit, row_name
from langgraph_switch.queries import trace_from_query
from langgraph_switch.state import SwitchInput, SwitchOutput, SwitchState
from langgraph_switch.switch import Switch
from langgraph_switch.trace import Trace

SwitchGraph: TypeAlias = CompiledStateGraph[SwitchState, None, SwitchInput, SwitchOutput]

_T = TypeVar("_T")
_CALL_OPTIONS = frozenset({"seed", "max_tokens", "temperature", "trace_id"})


_LOADING = threading.RLock()


class computed_once(cached_property[_T]):  # noqa: N801 - a decorator
    """A `cached_property` that is computed by one thread only, as before Python 3.12."""

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """Return the value, computing it on first use."""
        with _LOADING:
            return super().__get__(instance, owner)


class TraceLLM(BaseLLM):
    """A LangChain LLM whose responses are traces.

    Options by call: `stop`, `seed`, `max_tokens`, `temperature`, `trace_id`. Every generation's
    `generation_info` holds `finish_reason`, `seed`, `usage` and the whole `trace`.
    """

    model_config = ConfigDict(
        arbitrary_types_allowed=True, extra="forbid", ignored_types=(computed_once,)
    )

    _options: dict[str, Any] = PrivateAttr(default_factory=dict)

    @property
    @abstractmethod
    def switch(self) -> Switch:
        """The switch at work; models are loaded on first use."""

    @property
    @abstractmethod
    def _config(self) -> SwitchConfig: ...

    @computed_once
    def graph(self) -> SwitchGraph:
        """The compiled state machine: `graph.invoke({"queries": [...]})`, subgraph, Studio."""
        return build_graph(self.switch)

    @computed_once
    def _own_graph(self) -> SwitchGraph:
        # Inside somebody's graph, a call of this LLM is one call, not a subgraph of theirs.
        return build_graph(self.switch, checkpointer=False)

    @property
    def _identifying_params(self) -> dict[str, Any]:
        config = self._config.to_dict()
        return {"config": config, "options": self._options, "version": __version__}

    def get_token_ids(self, text: str) -> list[int]:
        """Return a text's tokens in the anchor's vocabulary, for LangChain's token counts."""
        if self.custom_get_token_ids is not None:
            return self.custom_get_token_ids(text)
        anchor = self.switch.candidates[self._config.anchor_name]
        return list(anchor.engine.tokenizer.encode(text))

    def generate(self, prompts: list[str], *args: Any, **kwargs: Any) -> LLMResult:
        """Answer prompts; see `BaseLLM.generate`."""
        bound, rest = self._bind_options(kwargs)
        return super(TraceLLM, bound).generate(prompts, *args, **rest)

    async def agenerate(self, prompts: list[str], *args: Any, **kwargs: Any) -> LLMResult:
        """Answer prompts; see `BaseLLM.agenerate`."""
        bound, rest = await asyncio.to_thread(self._bind_options, kwargs)
        return await super(TraceLLM, bound).agenerate(prompts, *args, **rest)

    def _bind_options(self, kwargs: dict[str, Any]) -> tuple[Self, dict[str, Any]]:
        """Return an LLM on the same switch to which the call's options belong, and the rest.

        LangChain's cache keys on what identifies an LLM and not on a call's options: without
        this, a call with another seed would be answered with the first one's text.
        """
        options = {key: kwargs[key] for key in _CALL_OPTIONS if key in kwargs}
        if not options:
            return self, kwargs
        _ = self._own_graph  # A copy has what is loaded before it is made.
        bound = super().model_copy()
        bound._options = self._options | options  # noqa: SLF001
        return bound, {key: value for key, value in kwargs.items() if key not in options}

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy; one with other fields loads its own models."""
        copied = super().model_copy(update=update, deep=deep)
        copied._forget_loaded(update or ())  # noqa: SLF001
        return copied

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a field; what was loaded for its old value is forgotten."""
        super().__setattr__(name, value)
        self._forget_loaded([name])

    def _forget_loaded(self, changed: Iterable[str]) -> None:
        if (type(self).model_fields.keys() - BaseLLM.model_fields.keys()) & set(changed):
            for name in ("switch", "graph", "_own_graph", "_config"):
                self.__dict__.pop(name, None)

    def _generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002 - no tokens to tell
        **kwargs: Any,
    ) -> LLMResult:
        call, config = self._call(prompts, stop, kwargs)
        with self._running(call) as graph:
            output = graph.invoke(call, config)
        return self._result([Trace.from_json(trace) for trace in output["traces"]])

    async def _agenerate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,
    ) -> LLMResult:
        call, config = self._call(prompts, stop, kwargs)
        async with self._running_async(call) as graph:
            output = await graph.ainvoke(call, config)
        return self._result([Trace.from_json(trace) for trace in output["traces"]])

    def _stream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[GenerationChunk]:
        call, config = self._call([prompt], stop, kwargs)
        with self._running(call) as graph:
            for event in graph.stream(call, config, stream_mode="custom"):
                if chunk := _chunk(event):
                    if run_manager:
                        run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                    yield chunk

    async def _astream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[GenerationChunk]:
        call, config = self._call([prompt], stop, kwargs)
        async with self._running_async(call) as graph:
            events: Any = graph.astream(call, config, stream_mode="custom")
            async with aclosing(events):
                async for event in events:
                    if chunk := _chunk(event):
                        if run_manager:
                            await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                        yield chunk

    def _call(
        self, prompts: list[str], stop: list[str] | None, options: dict[str, Any]
    ) -> tuple[SwitchInput, RunnableConfig]:
        """Return what the graph is called with, or refuse the options."""
        if unknown := sorted(set(options) - _CALL_OPTIONS):
            raise InputError(
                f"{type(self).__name__} has no option {unknown[0]!r}.",
                hint=f"use stop, {', '.join(sorted(_CALL_OPTIONS))}",
            )
        given = {**self._options, **options, "stop": stop}
        queries = [{"query": prompt} | given for prompt in prompts]
        traces = [trace_from_query(query, self._config) for query in queries]
        longest = max((trace.max_tokens for trace in traces), default=1)
        limit = recursion_limit(self._config, len(queries), longest)
        # Callbacks hear of an LLM's tokens; of our steps only those of a graph around us.
        config = RunnableConfig(recursion_limit=limit, callbacks=[])
        return SwitchInput(queries=queries, run_id=uuid.uuid4().hex), config

    @contextmanager
    def _running(self, call: SwitchInput) -> Iterator[SwitchGraph]:
        """Yield the graph, and leave nothing of the run in the engines."""
        graph = self._own_graph
        try:
            yield graph
        finally:
            self._release(call)

    @asynccontextmanager
    async def _running_async(self, call: SwitchInput) -> AsyncIterator[SwitchGraph]:
        """Do as `_running`; neither loading nor waiting for an engine blocks the event loop."""
        graph = await asyncio.to_thread(lambda: self._own_graph)
        try:
            yield graph
        finally:
            await asyncio.to_thread(self._release, call)

    def _release(self, call: SwitchInput) -> None:
        rows = [row_name(call["run_id"], index) for index in range(len(call["queries"]))]
        self.switch.release(rows)

    def _result(self, traces: list[Trace]) -> LLMResult:
        total = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
        for trace in traces:
            for key in total:
                total[key] += usage(trace)[key]
        return LLMResult(
            generations=[
                [Generation(text=trace.text, generation_info=generation_info(trace))]
                for trace in traces
            ],
            llm_output={"token_usage": total, "model_name": self._llm_type},
        )


def generation_info(trace: Trace) -> dict[str, Any]:
    """Return what a finished trace tells beside its text, as plain JSON types."""
    return {
        "finish_reason": trace.finish_reason,
        "seed": trace.seed,
        "usage": usage(trace),
        "trace": trace.to_json(),
    }


def usage(trace: Trace) -> dict[str, Any]:
    """Return token counts: the prompt as its first speaker read it, the response, and shares.

    `prefill_tokens` and `cached_tokens` say how much of all prefixes had to be computed.
    """
    first = trace.segments[0] if trace.segments else None
    num_input = first.prefill_tokens + first.cached_tokens if first else 0
    return {
        "input_tokens": num_input,
        "output_tokens": trace.num_tokens,
        "total_tokens": num_input + trace.num_tokens,
        "output_tokens_by_candidate": trace.tokens_by_speaker(),
        "prefill_tokens": sum(segment.prefill_tokens for segment in trace.segments),
        "cached_tokens": sum(segment.cached_tokens for segment in trace.segments),
    }


def _chunk(event: Any) -> GenerationChunk | None:
    """Return what LangChain hears of an event, if anything."""
    if event["type"] == "text":
        keys = ("speaker", "segment", "text", "decided_by", "probabilities")
        source = {key: event[key] for key in keys}
        # A list, because LangChain adds chunks up: lists are joined, other values clash.
        return GenerationChunk(text=event["text"], generation_info={"provenance": [source]})
    if event["type"] == "end":
        trace = Trace.from_json(event["data"])
        return GenerationChunk(text="", generation_info=generation_info(trace))
    return None
