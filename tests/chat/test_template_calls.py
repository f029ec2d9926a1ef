"""Calls as a tokenizer's own response template reads them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from capable_model import CONFIG
from langchain_core.tools import tool
from tiny_models import byte_tokenizer

from langgraph_switch import ChatSwitch, ScriptedEngine, provenance
from langgraph_switch.engines.byte_tokenizer import ByteTokenizer
from langgraph_switch.engines.tokenizer import HFTokenizer

CHAT = (
    "{% if tools %}<|tools|>{{ tools | tojson }}\n{% endif %}"
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TEMPLATE = {
    "defaults": {"role": "assistant"},
    "start_anchor": "<|assistant|>",
    "fields": {
        "content": {"close": ["[call]", "<think>"]},
        "thinking": {"open": "<think>", "close": "</think>"},
        "tool_calls": {
            "open": "[call]",
            "close": "[done]",
            "content": "json",
            "repeats": True,
            "transform": {"type": "function", "function": "{content}"},
        },
    },
}
CALL = '[call]{"name": "add", "arguments": {"a": "1", "b": 2}}[done]'


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def bound(text: str) -> Any:
    tokenizer = copy.deepcopy(byte_tokenizer(CHAT))
    tokenizer.response_template = TEMPLATE
    engines = {
        "base": ScriptedEngine(["x"], tokenizer=ByteTokenizer()),
        "aligned": ScriptedEngine([text, text], tokenizer=HFTokenizer(tokenizer), eos_token_ids=()),
    }
    config = CONFIG.with_changes(max_tokens=len(text))
    return ChatSwitch(config=config, engines=engines).bind_tools([add])


def both_ways(text: str) -> list[Any]:
    chat = bound(text)
    whole = chat.invoke("1 + 2?")
    first, *rest = chat.stream("1 + 2?")
    for chunk in rest:
        first += chunk
    assert provenance(first) == provenance(whole)
    return [whole, first]


def test_a_template_reads_calls_and_casts_their_arguments() -> None:
    for answer in both_ways(f"I add. {CALL}"):
        assert answer.content.strip() == "I add."
        [call] = answer.tool_calls
        assert (call["name"], call["args"]) == ("add", {"a": 1, "b": 2})


def test_several_calls_are_several_and_thoughts_are_left_out() -> None:
    for answer in both_ways(f"<think>Hm.</think>{CALL}{CALL}"):
        assert answer.content == ""
        assert [call["args"]["b"] for call in answer.tool_calls] == [2, 2]


def test_words_alone_are_words() -> None:
    for answer in both_ways("It is 3."):
        assert answer.content == "It is 3."
        assert answer.tool_calls == []


@pytest.mark.parametrize("inside", ['{"name": "add", "arguments": {"a": 1}', "add(1, 2)"])
def test_what_the_template_cannot_read_is_an_invalid_call(inside: str) -> None:
    for answer in both_ways(f"So: [call]{inside}[done]"):
        assert answer.tool_calls == []
        [broken] = answer.invalid_tool_calls
        assert inside[:6] in broken["args"]
