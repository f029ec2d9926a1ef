"""A scripted model that is capable enough for LangChain's conformance suites.

It reads the rendered chat as a real one would: which tools there are, what was asked, which
results came back; and writes a call in the form of Hermes models, or a sentence.
"""

from __future__ import annotations

import json
import re
from typing import Any

from langgraph_switch import ScriptedEngine, SwitchConfig
from langgraph_switch.chat import ChatSwitch
from langgraph_switch.engines.byte_tokenizer import ByteTokenizer

CONFIG = SwitchConfig.from_dict(
    {
        "candidates": [
            {"name": "base", "model": "none", "prompt": {"kind": "plain"}, "eos": "mask"},
            {"name": "aligned", "model": "none"},
        ],
        "switcher": {"kind": "fixed", "order": ["aligned", "base"]},
        "segment": {"max_tokens": 400},
        "max_tokens": 1000,
        "sampling": {"temperature": 0, "top_p": 1},
        "seed": 0,
    }
)
_TOOL = re.compile(r"<\|tools\|>\n(.*)\n")
_ROLE = r"<\|(?:system|user|assistant|tool)\|>\n"
_TURN = re.compile(rf"<\|(\w+)\|>\n(.*?)(?={_ROLE}|\Z)", re.DOTALL)


def capable_chat(**settings: Any) -> ChatSwitch:
    """Return a chat model whose anchor calls tools and whose base model adds a word."""
    engines = {
        "base": ScriptedEngine(lambda _: " Indeed.", tokenizer=ByteTokenizer()),
        "aligned": ScriptedEngine(reply, tokenizer=ByteTokenizer(chat=True)),
    }
    return ChatSwitch(config=CONFIG, engines=engines, **settings)


def reply(prefix: str) -> str:
    """Return what comes next of the answer that the model means to give."""
    tools = [json.loads(tool) for tool in _TOOL.findall(prefix)]
    *dialogue, (_, written) = _TURN.findall(_TOOL.sub("", prefix))
    whole = intended_answer(tools, dialogue)
    return whole[len(written) :] if whole.startswith(written) else " That is all."


def intended_answer(tools: list[dict[str, Any]], dialogue: list[tuple[str, str]]) -> str:
    """Return a call, if there are tools and no result has come back yet, or a sentence."""
    last_role, last = dialogue[-1]
    if last_role == "tool":
        return f"The answer is {last.strip()}."
    if not tools or last_role != "user":
        return "Hello there, how are you today? I am fine."
    function = tools[-1]["function"] if "Neurotransmitter" in last else tools[0]["function"]
    properties = function["parameters"].get("properties", {})
    arguments = {name: argument(one, last) for name, one in properties.items()}
    call = json.dumps({"name": function["name"], "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>\n{call}\n</tool_call>"


def argument(schema: dict[str, Any], asked: str) -> Any:
    """Return a value for a parameter: a number or quoted name of the question, or a word."""
    kinds = [schema, *schema.get("anyOf", [])]
    numbers = re.findall(r"-?\d+", asked)
    if any(kind.get("type") in {"integer", "number"} for kind in kinds):
        return int(numbers[0]) if numbers else 1
    if any(kind.get("type") == "boolean" for kind in kinds):
        return True
    quoted = re.search(r"'([^']+)'", asked)
    return quoted[1] if quoted else "San Francisco"
