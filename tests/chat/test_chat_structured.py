"""Structured output: an object of the schema, or an error that shows the text."""

from __future__ import annotations

import json
from typing import Any, Literal, TypedDict

import pytest
from capable_model import CONFIG
from langchain_core.exceptions import OutputParserException
from pydantic import BaseModel

from langgraph_switch import ChatSwitch, ScriptedEngine, SwitchLLM, provenance
from langgraph_switch.chat import tools
from langgraph_switch.engines.byte_tokenizer import ByteTokenizer
from langgraph_switch.errors import GenerationError, InputError, MissingExtraError


class Animal(BaseModel):
    """An animal."""

    kind: Literal["insect", "spider", "mammal"]
    can_fly: bool
    eats: list[Literal["leaves", "flies"]] | None = None


class AnimalDict(TypedDict):
    """An animal."""

    kind: Literal["insect", "spider"]
    can_fly: bool


def scripted(text: str) -> ChatSwitch:
    engines = {
        "base": ScriptedEngine(["x"] * 9),
        "aligned": ScriptedEngine([text] * 9, tokenizer=ByteTokenizer(chat=True)),
    }
    return ChatSwitch(config=CONFIG, engines=engines)


@pytest.fixture(scope="module")
def chat() -> ChatSwitch:
    return ChatSwitch.embedded()


@pytest.mark.parametrize("method", ["function_calling", "json_schema"])
@pytest.mark.parametrize("schema", [Animal, AnimalDict, Animal.model_json_schema()])
def test_even_a_tiny_model_follows_a_schema(chat: ChatSwitch, method: str, schema: Any) -> None:
    found = chat.with_structured_output(schema, method=method).invoke("What is a spider?")
    if schema is Animal:
        assert isinstance(found, Animal)
    else:
        assert isinstance(found, dict)
        assert found["kind"] in {"insect", "spider", "mammal"}


async def test_it_can_be_awaited_and_streamed(chat: ChatSwitch) -> None:
    asked = chat.with_structured_output(Animal, method="json_schema")
    found = asked.invoke("What is a spider?")
    assert await asked.ainvoke("What is a spider?") == found
    *_, last = asked.stream("What is a spider?")
    assert last == found


def test_include_raw_returns_all_three(chat: ChatSwitch) -> None:
    asked = chat.with_structured_output(Animal, include_raw=True)
    found: Any = asked.invoke("What is a spider?")
    assert isinstance(found["parsed"], Animal)
    assert found["raw"].tool_calls
    assert found["parsing_error"] is None
    broken: Any = chat.with_structured_output(Animal, include_raw=True, max_tokens=5).invoke("?")
    assert broken["parsed"] is None
    assert isinstance(broken["parsing_error"], OutputParserException)


def test_one_speaker_writes_the_whole_object(chat: ChatSwitch) -> None:
    schema = Animal.model_json_schema()
    shape = {"type": "json_schema", "json_schema": {"name": "animal", "schema": schema}}
    answer = chat.invoke("What is a spider?", response_format=shape)
    assert {segment["speaker"] for segment in provenance(answer)} == {"aligned"}
    assert answer.response_metadata["finish_reason"] == "grammar"
    Animal.model_validate_json(answer.text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("I would rather not.", "no tool was called"),
        ('<tool_call>{"name": "Animal", "arguments": {</tool_call>', "no JSON"),
        ('<tool_call>{"name": "Animal", "arguments": {"kind": "fish"}}</tool_call>', "kind"),
    ],
)
def test_an_answer_that_is_no_object_is_shown(text: str, problem: str) -> None:
    asked = scripted(text).with_structured_output(Animal)
    with pytest.raises(OutputParserException, match=problem) as caught:
        asked.invoke("?")
    assert text[:20].strip() in str(caught.value) or "fish" in str(caught.value)


def test_json_that_was_cut_off_says_so(chat: ChatSwitch) -> None:
    asked = chat.with_structured_output(Animal, method="json_schema")
    with pytest.raises(OutputParserException, match="cut off"):
        asked.invoke("?", max_tokens=4)


def test_json_mode_is_some_object() -> None:
    chat = ChatSwitch.embedded(max_tokens=300)
    answer = chat.invoke("What is a spider?", response_format={"type": "json_object"}, max_tokens=8)
    assert answer.text.startswith("{")
    asked = scripted('{"a": 1}').with_structured_output({"title": "any"}, method="json_mode")
    assert asked.invoke("?") == {"a": 1}


def test_wrong_methods_and_formats_are_refused(chat: ChatSwitch) -> None:
    with pytest.raises(InputError, match="no method 'guess'"):
        chat.with_structured_output(Animal, method="guess")
    with pytest.raises(InputError, match="no format"):
        chat.invoke("?", response_format={"type": "xml"})


def test_without_the_library_a_choice_is_a_wish_and_a_format_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tools, "can_constrain", lambda: False)
    monkeypatch.setattr("langgraph_switch.chat.structured.can_constrain", lambda: False)
    arguments = '{"kind": "insect", "can_fly": true}'
    chat = scripted(f'<tool_call>{{"name": "Animal", "arguments": {arguments}}}')
    with pytest.warns(UserWarning, match="tool_choice is a wish"):
        found = chat.with_structured_output(Animal).invoke("?")
    assert found == Animal(kind="insect", can_fly=True)
    with pytest.raises(MissingExtraError, match="structured"):
        chat.with_structured_output(Animal, method="json_schema")


def test_a_grammar_holds_from_speaker_to_speaker_and_in_batches() -> None:
    llm = SwitchLLM.embedded()
    grammar = 'start: ("aa" | "bc")+ "."'
    queries = [{"query": f"q{i}", "grammar": grammar, "temperature": 1.0} for i in range(4)]
    traces = llm.graph.invoke({"queries": [*queries, "How many legs does a cat have?"]})["traces"]
    for trace in traces[:4]:
        text = "".join(segment["text"] for segment in trace["segments"])
        body = text.removesuffix(".")
        assert {body[i : i + 2] for i in range(0, len(body), 2)} <= {"aa", "bc", "a", "b"}
    free = "".join(segment["text"] for segment in traces[4]["segments"])
    assert free == llm.invoke("How many legs does a cat have?")


def test_a_grammar_that_is_none_is_refused() -> None:
    with pytest.raises(GenerationError, match="no grammar"):
        SwitchLLM.embedded().graph.invoke({"queries": [{"query": "q", "grammar": "start: foo"}]})
    with pytest.raises(InputError, match="grammar"):
        SwitchLLM.embedded().graph.invoke({"queries": [{"query": "q", "grammar": 5}]})


def test_schemas_are_told_to_the_model() -> None:
    chat = scripted(json.dumps({"kind": "insect", "can_fly": True}))
    assert chat.with_structured_output(Animal, method="json_schema").invoke("?").can_fly  # type: ignore[union-attr]
    engine: Any = chat.switch.candidates["aligned"].engine
    read = engine.tokenizer.decode(engine.calls[0][0].prefix)
    assert "can_fly" in read
    assert read.index("can_fly") < read.index("?")
