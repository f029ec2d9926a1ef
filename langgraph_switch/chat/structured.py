"""Answers as objects of a schema: by a tool that has to be called, or as JSON.

Knows nothing of models or of how a grammar is enforced.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from langchain_core.exceptions import OutputParserException
from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable, RunnableLambda, RunnableMap, RunnablePassthrough
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from langchain_core.utils.pydantic import is_basemodel_subclass

from langgraph_switch.chat.grammars import can_constrain
from langgraph_switch.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from langgraph_switch.chat.model import ChatSwitch

METHODS = ("function_calling", "json_schema", "json_mode")

Schema = dict[str, Any] | type
Parse = Callable[[AIMessage], Any]


def structured_output(
    chat: ChatSwitch,
    schema: Schema,
    *,
    method: str,
    include_raw: bool,
    options: dict[str, Any],
) -> Runnable[LanguageModelInput, Any]:
    """Return a runnable that asks a chat model and reads its answer as an object.

    Raises:
        InputError: There is no such method.
        MissingExtraError: The method needs constrained decoding.
    """
    if method not in METHODS:
        raise InputError(f"There is no method {method!r}.", hint=f"use {', '.join(METHODS)}")
    options = {key: value for key, value in options.items() if key != "strict"}
    if method == "function_calling":
        name = convert_to_openai_tool(schema)["function"]["name"]
        ask = chat.bind_tools(
            [schema],
            tool_choice=name,
            ls_structured_output_format={"kwargs": {"method": method}, "schema": schema},
            **options,
        )
        return _read(ask, lambda message: _called(message, schema), include_raw=include_raw)
    if not can_constrain():
        raise MissingExtraError(f"Structured output by {method!r}", extra="structured")
    response_format: dict[str, Any] = {"type": "json_object"}
    if method == "json_schema":
        described = convert_to_json_schema(schema)
        json_schema = {"name": described.get("title", "answer"), "schema": described}
        response_format = {"type": "json_schema", "json_schema": json_schema}
    ask = chat.bind(
        response_format=response_format,
        ls_structured_output_format={"kwargs": {"method": method}, "schema": schema},
        **options,
    )
    return _read(ask, lambda message: _written(message, schema), include_raw=include_raw)


def _read(
    ask: Runnable[Any, Any], parse: Parse, *, include_raw: bool
) -> Runnable[LanguageModelInput, Any]:
    reader = RunnableLambda(parse, name="read_object")
    if not include_raw:
        return ask | reader
    parsed = RunnablePassthrough.assign(
        parsed=itemgetter("raw") | reader, parsing_error=lambda _: None
    )
    failed = RunnablePassthrough.assign(parsed=lambda _: None)
    return RunnableMap(raw=ask) | parsed.with_fallbacks([failed], exception_key="parsing_error")


def _called(message: AIMessage, schema: Schema) -> Any:
    if not message.tool_calls:
        broken = message.invalid_tool_calls
        text = str(broken[0]["args"]) if broken else message.text
        problem = (broken[0]["error"] or "a broken call") if broken else "no tool was called"
        raise _unreadable(text, problem)
    return _object(message.tool_calls[0]["args"], schema, text=message.tool_calls[0]["args"])


def _written(message: AIMessage, schema: Schema) -> Any:
    try:
        data = json.loads(message.text)
    except ValueError as err:
        cut = " (the answer was cut off)" if _was_cut(message) else ""
        raise _unreadable(message.text, f"no JSON: {err}{cut}") from err
    return _object(data, schema, text=message.text)


def _object(data: Any, schema: Schema, *, text: Any) -> Any:
    """Return data as an object of a pydantic model; plain data for any other schema."""
    if isinstance(schema, dict) or not is_basemodel_subclass(schema):
        return data
    try:
        model: Any = schema  # Of pydantic 2, or of its version 1.
        return (getattr(model, "model_validate", None) or model.parse_obj)(data)
    except ValueError as err:  # Either version's ValidationError.
        raise _unreadable(str(text), str(err)) from err


def _was_cut(message: AIMessage) -> bool:
    return message.response_metadata.get("finish_reason") == "length"


def _unreadable(text: str, problem: str) -> OutputParserException:
    return OutputParserException(
        f"The answer is no object of the schema: {problem}\n  The answer: {text!r}\n"
        "  Fix: raise max_tokens if it was cut off, or use the extra 'structured', which makes "
        "every answer follow the schema",
        llm_output=text,
    )
