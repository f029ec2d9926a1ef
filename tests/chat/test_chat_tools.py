"""Tools: who is told of them, who may call them, how calls come back."""

from __future__ import annotations

from typing import Any

import pytest
from capable_model import CONFIG, capable_chat
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from pydantic import BaseModel

from langgraph_switch import ChatSwitch, ScriptedEngine, provenance
from langgraph_switch.chat.grammars import call_grammar
from langgraph_switch.engines.byte_tokenizer import ByteTokenizer
from langgraph_switch.errors import InputError

CALL = (
    '<tool_call>\n{"name": "count_legs", "arguments": {"animal": "cat", "number": 2}}\n</tool_call>'
)


@tool
def count_legs(animal: str, number: int) -> int:
    """Count the legs of some animals."""
    return {"cat": 4, "spider": 8}[animal] * number


class Wings(BaseModel):
    """Count wings."""

    has_wings: bool


def say_yes(really: bool) -> bool:
    """Say yes.

    Args:
        really: Whether to.
    """
    return really


def scripted(aligned: Any, base: Any = (), **changes: Any) -> ChatSwitch:
    engines = {
        "base": ScriptedEngine(base, tokenizer=ByteTokenizer(chat=True)),
        "aligned": ScriptedEngine(aligned, tokenizer=ByteTokenizer(chat=True)),
    }
    return ChatSwitch(config=CONFIG.with_changes(**changes), engines=engines)


def read_by(chat: ChatSwitch, name: str) -> str:
    engine = chat.switch.candidates[name].engine
    [request] = engine.calls[0]  # type: ignore[attr-defined]
    return engine.tokenizer.decode(request.prefix)


def test_a_call_comes_back_as_a_call() -> None:
    chat = scripted([f"Let me see.\n{CALL}"])
    answer = chat.bind_tools([count_legs]).invoke("How many legs do 2 cats have?")
    assert answer.content == "Let me see."
    [call] = answer.tool_calls
    assert (call["name"], call["args"]) == ("count_legs", {"animal": "cat", "number": 2})
    assert answer.response_metadata["finish_reason"] == "tool_calls"
    assert provenance(answer)[0]["text"] == f"Let me see.\n{CALL}"
    assert count_legs.invoke(call).content == "8"


def test_streamed_calls_add_up_to_the_message() -> None:
    text = f"Let me see.\n{CALL}\n{CALL}"
    bound = scripted([text, text]).bind_tools([count_legs])
    whole = bound.invoke("?")
    first, *rest = bound.stream("?")
    for chunk in rest:
        first += chunk
    assert first.content == whole.content
    assert first.tool_calls == whole.tool_calls  # type: ignore[attr-defined]
    assert len({call["id"] for call in whole.tool_calls}) == 2
    assert provenance(first) == provenance(whole)


def test_a_broken_call_is_an_invalid_call_in_either_way() -> None:
    text = '<tool_call>{"name": "count_legs", "arguments": {"animal": "cat"}</tool_call>'
    bound = scripted([text, text]).bind_tools([count_legs])
    whole = bound.invoke("?")
    first, *rest = bound.stream("?")
    for chunk in rest:
        first += chunk
    for answer in (whole, first):
        assert answer.tool_calls == []  # type: ignore[attr-defined]
        [broken] = answer.invalid_tool_calls  # type: ignore[attr-defined]
        assert broken["args"] == text.removesuffix("</tool_call>")


def test_every_kind_of_tool_reaches_the_anchor_and_nobody_else() -> None:
    chat = scripted(["Hm. ", " Done."], base=[" I only talk. "], segment={"max_tokens": 4})
    schema = {"title": "leap", "description": "Leap.", "type": "object", "properties": {}}
    bound = chat.bind_tools([count_legs, Wings, say_yes, schema])
    bound.invoke("?", max_tokens=12)
    for name in ("count_legs", "Wings", "say_yes", "leap"):
        assert name in read_by(chat, "aligned")
        assert name not in read_by(chat, "base")


def test_everybody_may_be_told_of_tools() -> None:
    chatty = [{"name": name, "model": "none"} for name in CONFIG.names]
    script: dict[str, Any] = {"candidates": chatty, "segment": {"max_tokens": 4}}
    chat = scripted(["Hm. ", " Done."], [" Hm. "], tools={"callers": "all"}, **script)
    chat.bind_tools([count_legs]).invoke("?", max_tokens=12)
    assert "count_legs" in read_by(chat, "base")


def test_what_another_candidate_writes_is_no_call() -> None:
    nobody = {"first": False, "last": False}
    order = {"kind": "fixed", "order": ["base"]}
    chat = scripted([], base=[CALL], segment={"max_tokens": 100}, anchor=nobody, switcher=order)
    answer = chat.bind_tools([count_legs]).invoke("?", max_tokens=100)
    assert answer.tool_calls == []
    assert answer.text.strip() == CALL


def test_whoever_opens_a_call_keeps_the_floor() -> None:
    pieces = [CALL[start : start + 10] for start in range(0, len(CALL), 10)]
    chat = scripted([*pieces, ""], base=["never"] * 20, segment={"max_tokens": 10})
    answer = chat.bind_tools([count_legs]).invoke("?")
    assert answer.tool_calls[0]["args"] == {"animal": "cat", "number": 2}
    told = provenance(answer)
    assert {segment["speaker"] for segment in told} == {"aligned"}
    assert {segment["decided_by"] for segment in told[1:]} == {"block"}


def test_code_blocks_are_kept_where_the_configuration_says_so() -> None:
    code = ["```py\n1", "+1\n2+22", "\n```\n"]
    plain = scripted([code[0], *code[1:]], base=["x"] * 9, segment={"max_tokens": 7})
    assert {s["speaker"] for s in provenance(plain.invoke("?", max_tokens=28))} != {"aligned"}
    kept = scripted(code, base=["x"], segment={"max_tokens": 7, "keep_blocks": True})
    speakers = [s["speaker"] for s in provenance(kept.invoke("?", max_tokens=21))]
    assert speakers == ["aligned"] * 3


def test_calls_and_results_are_read_back() -> None:
    chat = scripted(["It has 8."])
    called = AIMessage(
        "Let me see.", tool_calls=[{"name": "count_legs", "args": {"number": 2}, "id": "1"}]
    )
    dialogue = [HumanMessage("?"), called, ToolMessage("8", tool_call_id="1")]
    assert chat.bind_tools([count_legs]).invoke(dialogue).content == "It has 8."
    read = read_by(chat, "aligned")
    assert '{"name": "count_legs", "arguments": {"number": 2}}' in read
    assert "<|tool|>\n8" in read


def test_tools_that_nobody_can_be_told_of_are_refused() -> None:
    plain = {"kind": "plain"}
    config = CONFIG.with_changes(
        candidates=tuple(c.model_copy(update={"prompt": plain}) for c in CONFIG.candidates)
    )
    engines = {name: ScriptedEngine(["x"]) for name in config.names}
    chat = ChatSwitch(config=config.from_dict(config.to_dict()), engines=engines)
    with pytest.raises(InputError, match="no place for tools") as caught:
        chat.bind_tools([count_legs]).invoke("?")
    assert "prompt.tools" in caught.value.hint


def test_a_choice_that_names_no_tool_is_refused_at_once() -> None:
    with pytest.raises(InputError, match="names no tool: 'leap'") as caught:
        capable_chat().bind_tools([count_legs], tool_choice="leap")
    assert "count_legs" in caught.value.hint


@pytest.mark.parametrize(
    "choice", ["any", "required", True, "Wings", {"function": {"name": "Wings"}}]
)
def test_a_forced_call_is_a_call_on_real_weights(choice: Any) -> None:
    chat = ChatSwitch.embedded()
    answer = chat.bind_tools([Wings], tool_choice=choice).invoke("Does a spider have wings?")
    assert answer.content == ""
    [call] = answer.tool_calls
    assert call["name"] == "Wings"
    Wings.model_validate(call["args"])
    assert answer.response_metadata["finish_reason"] == "tool_calls"


def test_no_choice_means_no_tools() -> None:
    chat = scripted(["Words."])
    assert chat.bind_tools([count_legs], tool_choice="none").invoke("?").content == "Words."
    assert "count_legs" not in read_by(chat, "aligned")


def test_a_grammar_of_calls_names_every_tool() -> None:
    grammar = call_grammar(
        [
            {"function": {"name": 'a"b', "parameters": {"type": "object", "properties": {}}}},
            {"function": {"name": "plain"}},
        ]
    )
    assert "call_0 | call_1" in grammar
    assert grammar.count("%json") == 2
