"""What LangChain sees of a switch: prompts in, text out, provenance beside it.

The base of `SwitchLLM` and `CheckpointLLM`. Knows nothing of models or of how a switch decides.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any, Self

from langchain_core.callbacks import (
    AsyncCallbackManagerForLLMRun,
    CallbackManagerForLLMRun,
)
from langchain_core.language_models.llms import BaseLLM
from langchain_core.outputs import Generation, GenerationChunk, LLMResult
from pydantic import ConfigDict, PrivateAttr

from langgraph_switch._version import __version__
from langgraph_switch.errors import InputError
from langgraph_switch.loading import LoadsSwitch
from langgraph_switch.trace import Trace
from langgraph_switch.usage import usage

_CALL_OPTIONS = frozenset({"seed", "max_tokens", "temperature", "trace_id"})


class TraceLLM(LoadsSwitch, BaseLLM):
    """A LangChain LLM whose responses are traces.

    Options by call: `stop`, `seed`, `max_tokens`, `temperature`, `trace_id`. Every generation's
    `generation_info` holds `finish_reason`, `seed`, `usage` and the whole `trace`.
    """

    model_config = ConfigDict(extra="forbid")

    _options: dict[str, Any] = PrivateAttr(default_factory=dict)

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
        _ = self._runs, self._serialized  # A copy has what is there before it is made.
        bound = super().model_copy()
        bound._options = self._options | options  # noqa: SLF001
        return bound, {key: value for key, value in kwargs.items() if key not in options}

    def _generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002 - no tokens to tell
        **kwargs: Any,
    ) -> LLMResult:
        return self._result(self._runs.finish(self._queries(prompts, stop, kwargs)))

    async def _agenerate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,
    ) -> LLMResult:
        queries = self._queries(prompts, stop, kwargs)
        runs = await asyncio.to_thread(lambda: self._runs)  # Loading must not block the loop.
        return self._result(await runs.afinish(queries))

    def _stream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[GenerationChunk]:
        [query] = self._queries([prompt], stop, kwargs)
        for event in self._runs.events(query):
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
        [query] = self._queries([prompt], stop, kwargs)
        runs = await asyncio.to_thread(lambda: self._runs)
        async with aclosing(runs.aevents(query)) as events:
            async for event in events:
                if chunk := _chunk(event):
                    if run_manager:
                        await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                    yield chunk

    def _queries(
        self, prompts: list[str], stop: list[str] | None, options: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """Return what the state machine is asked, or refuse the options."""
        if unknown := sorted(set(options) - _CALL_OPTIONS):
            raise InputError(
                f"{type(self).__name__} has no option {unknown[0]!r}.",
                hint=f"use stop, {', '.join(sorted(_CALL_OPTIONS))}",
            )
        given = {**self._options, **options, "stop": stop}
        return [{"query": prompt} | given for prompt in prompts]

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
