"""Tools and their results in a candidate's prompt, as far as its chat template knows of them.

A template that knows tools gets them in its own form. Any other one can be given them as text:
schemas in the system message, results in the user's turn (the form of Hermes models).
Knows nothing of engines or of how calls are parsed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from langgraph_switch.engines.tokenizer import Tokenizer
from langgraph_switch.errors import InputError
from langgraph_switch.trace import Message, ToolCall

_PROBE = "probe_of_tools"
_PROBE_TOOL = (
    f'{{"type": "function", "function": {{"name": "{_PROBE}", "description": "", '
    '"parameters": {"type": "object", "properties": {}}}}'
)
_INSTRUCTION = """\
You may call functions. Here are their signatures, between <tools> and </tools>:
<tools>
{tools}
</tools>
To call one, write a JSON object with its name and arguments:
<tool_call>
{{"name": <name>, "arguments": <arguments>}}
</tool_call>"""


def template_carries_tools(tokenizer: Tokenizer) -> bool:
    """Return whether a chat template shows the tools that it is given."""
    if not tokenizer.has_chat_template:
        return False
    try:
        shown = tokenizer.render_chat([Message(role="user", content="x")], tools=[_PROBE_TOOL])
    except InputError:
        return False
    return _PROBE in shown


def template_carries_results(tokenizer: Tokenizer) -> bool:
    """Return whether a chat template shows calls and their results."""
    if not tokenizer.has_chat_template:
        return False
    call = ToolCall(id="probe0000", name=_PROBE, arguments="{}")
    dialogue = [
        Message(role="user", content="x"),
        Message(role="assistant", content="", tool_calls=(call,)),
        Message(role="tool", content="the-result", tool_call_id=call.id),
    ]
    try:
        shown = tokenizer.render_chat(dialogue)
    except InputError:
        return False
    return _PROBE in shown and "the-result" in shown


def with_tools_as_text(messages: Sequence[Message], tools: Sequence[str]) -> list[Message]:
    """Return the conversation with tools described in its system message."""
    described = _INSTRUCTION.format(tools="\n".join(tools))
    if messages and messages[0].role == "system":
        first = replace(messages[0], content=f"{messages[0].content}\n\n{described}")
        return [first, *messages[1:]]
    return [Message(role="system", content=described), *messages]


def with_results_as_text(messages: Sequence[Message]) -> list[Message]:
    """Return the conversation with calls and results written out, in roles that every template has.

    Results that follow each other share one turn of the user.
    """
    written: list[Message] = []
    previous = None
    for message in messages:
        if message.role == "tool":
            text = f"<tool_response>\n{message.content}\n</tool_response>"
            if previous == "tool":
                written[-1] = replace(written[-1], content=f"{written[-1].content}\n{text}")
            else:
                written.append(Message(role="user", content=text))
        elif message.tool_calls:
            written.append(Message(role="assistant", content=message.text))
        else:
            written.append(message)
        previous = message.role
    return written
