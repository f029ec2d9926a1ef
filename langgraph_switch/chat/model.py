"""`ChatSwitch`: several checkpoints that take turns within one answer, as one LangChain chat model.

Knows nothing of how candidates generate or of how a switch decides.
"""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing
from typing import Any

from langchain_core.callbacks import (
    AsyncCallbackManagerForLLMRun,
    CallbackManagerForLLMRun,
)
from langchain_core.language_models import LangSmithParams, LanguageModelInput
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.graph import Graph
from langchain_core.tools import BaseTool
from pydantic import BaseModel, ConfigDict, Field, model_validator

from langgraph_switch._version import __version__
from langgraph_switch.candidates import Candidate
from langgraph_switch.chat.calls import CallReader, CallScanner
from langgraph_switch.chat.messages import query_messages, with_schema
from langgraph_switch.chat.reply import Reply
from langgraph_switch.chat.structured import structured_output
from langgraph_switch.chat.template_calls import TemplateReader
from langgraph_switch.chat.tools import constrained, tool_schemas
from langgraph_switch.engines.tokenizer import HFTokenizer
from langgraph_switch.errors import InputError
from langgraph_switch.loading import DescribedSwitch, computed_once
from langgraph_switch.prompts.candidate import SwitchWarning
from langgraph_switch.queries import trace_from_query
from langgraph_switch.runs import SwitchRuns
from langgraph_switch.solo import solo
from langgraph_switch.trace import Trace

_OPTIONS = frozenset({"seed", "max_tokens", "temperature", "trace_id"})
_MODEL = "model"
"""The option that names one candidate to answer alone."""
_TOOL_OPTIONS = frozenset({"tools", "tool_choice", "response_format"})
_IGNORED_OPTIONS = frozenset({"strict", "parallel_tool_calls", "ls_structured_output_format"})
"""What LangChain passes on to every model, and what changes nothing here."""
_MAKING = threading.Lock()
_REMOTE_SETTINGS = frozenset({"api_key", "base_url", "max_retries", "timeout"})


class ChatSwitch(DescribedSwitch, BaseChatModel):
    """Checkpoints take turns to write the segments of one answer (Switch Generation).

    Example:
        ```python
        chat = ChatSwitch.embedded()
        answer = chat.invoke([("human", "How many legs do 3 spiders and 2 cats have in total?")])
        provenance(answer)  # who wrote what
        ```

    Options by call: `stop`, `seed`, `max_tokens`, `temperature`, `trace_id`; `model` names one
    candidate that answers alone; tools by `bind_tools`.
    Models are loaded on first use. Concurrent calls, threads or awaits, share decoding steps.
    """

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    temperature: float | None = Field(default=None, ge=0, le=10)
    """Overrides every candidate's temperature; 0 takes the most probable token."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Most tokens of an answer, instead of the configuration's."""
    stop: list[str] | None = None
    """Strings that end an answer, instead of the configuration's."""
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    """Seed of every draw, instead of the configuration's."""
    streaming: bool = False
    """Stream inside `invoke` too, for callbacks."""

    @model_validator(mode="before")
    @classmethod
    def _drop_remote_settings(cls, values: Any) -> Any:
        """Accept what every chat model takes and only a remote one needs."""
        if isinstance(values, dict) and (found := sorted(_REMOTE_SETTINGS & values.keys())):
            warnings.warn(
                f"{', '.join(found)}: without meaning for checkpoints in this process",
                SwitchWarning,
                stacklevel=2,
            )
            return {key: value for key, value in values.items() if key not in found}
        return values

    @model_validator(mode="after")
    def _stamp_version(self) -> ChatSwitch:
        self._add_version("langgraph-switch", __version__)
        return self

    @property
    def model_name(self) -> str:
        """What messages and traces call this model: its candidates' names."""
        return f"switch({', '.join(self.config.names)})"

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | bool | dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Return the chat model with tools that it may call.

        Args:
            tools: Python functions, pydantic models, LangChain tools or JSON schemas.
            tool_choice: A tool's name, `any` (also `required`, True): one has to be called, which
                needs the extra `structured` to be certain; `auto`, `none`.
            kwargs: Options of every call.

        Raises:
            InputError: `tool_choice` names no tool.
        """
        schemas = tool_schemas(tools)
        constrained(schemas, tool_choice, response_format=None)  # Refuse now, not at the call.
        choice = {} if tool_choice is None else {"tool_choice": tool_choice}
        return self.bind(tools=schemas, **choice, **kwargs)

    def with_structured_output(
        self,
        schema: dict[str, Any] | type,
        *,
        method: str = "function_calling",
        include_raw: bool = False,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, dict[str, Any] | BaseModel]:
        """Return a runnable that answers with an object of a schema.

        Args:
            schema: A pydantic model, a TypedDict, or a JSON schema with a title.
            method: `function_calling` (the schema is a tool that has to be called),
                `json_schema` (the whole answer is JSON of the schema; needs the extra
                `structured`) or `json_mode` (the answer is some JSON object; likewise).
            include_raw: Return `raw`, `parsed` and `parsing_error` instead of raising.
            kwargs: Options of every call.

        Raises:
            InputError: There is no such method.
            MissingExtraError: The method needs constrained decoding.
        """
        return structured_output(
            self, schema, method=method, include_raw=include_raw, options=kwargs
        )

    def get_graph(self, config: RunnableConfig | None = None) -> Graph:
        """Return the picture of the state machine: decide -> generate -> append."""
        picture: Graph = self.graph.get_graph(config)
        return picture

    def get_token_ids(self, text: str) -> list[int]:
        """Return a text's tokens in the anchor's vocabulary, for LangChain's token counts."""
        if self.custom_get_token_ids is not None:
            return self.custom_get_token_ids(text)
        anchor = self.switch.candidates[self.config.anchor_name]
        return list(anchor.engine.tokenizer.encode(text))

    def batch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        **kwargs: Any,
    ) -> list[AIMessage]:
        """Answer several conversations at once; as many are in progress as the limits allow."""
        if not isinstance(config, list):
            together = min(len(inputs), self.config.limits.live_traces) or 1
            config = RunnableConfig({"max_concurrency": together, **(config or {})})
        return super().batch(inputs, config, **kwargs)

    @property
    def _llm_type(self) -> str:
        return "switch-chat"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return self._described() | self._own_options() | {"version": __version__}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop or self.stop, **kwargs)
        params["ls_provider"] = "langgraph_switch"
        params["ls_model_name"] = kwargs.get(_MODEL) or self.model_name
        return params

    def _resolve_model_profile(self) -> Any:
        return {
            "max_output_tokens": self.max_tokens or self.config.max_tokens,
            "text_inputs": True,
            "image_inputs": False,
            "audio_inputs": False,
            "tool_calling": True,
            "tool_choice": True,
        }

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002 - no tokens to tell
        **kwargs: Any,
    ) -> ChatResult:
        query = self._query(messages, stop, kwargs)
        [trace] = self._runs_of(kwargs).finish([query])
        return self._result(trace, kwargs, query)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,
    ) -> ChatResult:
        query = self._query(messages, stop, kwargs)
        runs = await asyncio.to_thread(self._runs_of, kwargs)  # Loading must not block the loop.
        [trace] = await runs.afinish([query])
        return self._result(trace, kwargs, query)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        query = self._query(messages, stop, kwargs)
        runs = self._runs_of(kwargs)
        reply = self._reply(kwargs, query)
        for event in runs.events(query):
            if message := reply.chunk(event):
                chunk = ChatGenerationChunk(message=message)
                if run_manager:
                    run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        query = self._query(messages, stop, kwargs)
        runs = await asyncio.to_thread(self._runs_of, kwargs)
        reply = self._reply(kwargs, query)
        async with aclosing(runs.aevents(query)) as events:
            async for event in events:
                if message := reply.chunk(event):
                    chunk = ChatGenerationChunk(message=message)
                    if run_manager:
                        await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                    yield chunk

    def _query(
        self, messages: list[BaseMessage], stop: list[str] | None, options: dict[str, Any]
    ) -> dict[str, Any]:
        """Return what the state machine is asked, or refuse the call."""
        known = _OPTIONS | _TOOL_OPTIONS | _IGNORED_OPTIONS | {_MODEL}
        if unknown := sorted(set(options) - known):
            raise InputError(
                f"{type(self).__name__} has no option {unknown[0]!r}.",
                hint=f"use stop, model, {', '.join(sorted(_OPTIONS))}, or bind_tools",
            )
        by_call = {key: options[key] for key in _OPTIONS if key in options}
        given = self._own_options() | by_call
        if stop is not None:
            given["stop"] = stop
        asked = constrained(
            options.get("tools") or [],
            options.get("tool_choice"),
            response_format=options.get("response_format"),
        )
        return {"messages": _told(messages, options.get("response_format"))} | given | asked

    def _own_options(self) -> dict[str, Any]:
        fields = ("temperature", "max_tokens", "stop", "seed")
        own = {name: getattr(self, name) for name in fields}
        return {name: value for name, value in own.items() if value is not None}

    def _runs_of(self, options: dict[str, Any]) -> SwitchRuns:
        """Return the runs of the switch, or of the candidate that a call names.

        Raises:
            InputError: It names no candidate.
        """
        name = options.get(_MODEL)
        if name is None or name == self.model_name:
            together: SwitchRuns = self._runs
            return together
        if name not in self.config.names:
            raise InputError(
                f"`model` names no candidate: {name!r}.",
                hint=f"use {', '.join(self.config.names)}, or leave it out for all of them",
            )
        with _MAKING:
            alone: dict[str, SwitchRuns] = self._runs_alone
            if name not in alone:
                alone[name] = SwitchRuns(solo(self.switch, name))
            return alone[name]

    @computed_once
    def _runs_alone(self) -> dict[str, SwitchRuns]:
        return {}

    def _reply(self, options: dict[str, Any], query: dict[str, Any]) -> Reply:
        """Return what turns the response to a query into messages."""
        name = options.get(_MODEL) or self.model_name
        if "tools" not in query:
            return Reply(model_name=name)
        alone = options.get(_MODEL) if options.get(_MODEL) in self.config.names else None
        everybody = self.config.tools.callers == "all" or alone
        callers = self.config.names if everybody else (self.config.anchor_name,)
        reader = self._reader(self.switch.candidates[alone or self.config.anchor_name], query)
        return Reply(model_name=name, callers=callers, reader=reader)

    def _reader(self, candidate: Candidate, query: dict[str, Any]) -> CallReader:
        """Return what reads calls: the template of a candidate's tokenizer, if it has one."""
        tokenizer = candidate.engine.tokenizer
        if not isinstance(tokenizer, HFTokenizer) or tokenizer.response_template is None:
            return CallScanner()
        prompt = candidate.prompt.render(trace_from_query(query, self.config))
        parser = tokenizer.backend.get_response_parser(prefix=prompt, tools=query["tools"])
        return TemplateReader(parser)

    def _result(self, trace: Trace, options: dict[str, Any], query: dict[str, Any]) -> ChatResult:
        message = self._reply(options, query).message(trace)
        return ChatResult(
            generations=[ChatGeneration(message=message)],
            llm_output={"model_name": message.response_metadata["model_name"]},
        )


def _told(
    messages: list[BaseMessage], response_format: dict[str, Any] | None
) -> list[dict[str, Any]]:
    """Return the conversation, which says what JSON is expected if it has to be of a schema."""
    found = query_messages(messages)  # Refuses what cannot be answered.
    schema = (response_format or {}).get("json_schema")
    return query_messages(with_schema(messages, schema["schema"])) if schema else found
