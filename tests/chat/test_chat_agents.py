"""`ChatSwitch` inside agents and graphs of other people."""

from __future__ import annotations

from typing import Any

import pytest
from capable_model import CONFIG, capable_chat
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, AIMessageChunk, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import StreamMode
from pydantic import BaseModel
from typing_extensions import TypedDict

from langgraph_switch import ChatSwitch, ScriptedEngine, SwitchLLM, provenance
from langgraph_switch.engines.byte_tokenizer import ByteTokenizer


@tool
def count_legs(animal: str, number: int) -> int:
    """Count the legs of some animals."""
    return {"cat": 4, "spider": 8}[animal] * number


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def call(name: str, arguments: str) -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


TURNS = [
    "I count both.\n"
    + call("count_legs", '{"animal": "spider", "number": 3}')
    + "\n"
    + call("count_legs", '{"animal": "cat", "number": 2}'),
    call("add", '{"a": 24, "b": 8}'),
    "They have 32 legs.",
    call("add", '{"a": 32, "b": 8}'),
    "With one more spider, 40.",
]


def agent_chat(texts: list[str]) -> ChatSwitch:
    engines = {
        "base": ScriptedEngine(lambda _: "", tokenizer=ByteTokenizer()),
        "aligned": ScriptedEngine(texts, tokenizer=ByteTokenizer(chat=True)),
    }
    return ChatSwitch(config=CONFIG, engines=engines)


def test_an_agent_uses_two_tools_over_two_turns_of_a_thread() -> None:
    chat = agent_chat(TURNS)
    agent = create_agent(chat, tools=[count_legs, add], checkpointer=InMemorySaver())
    thread: Any = {"configurable": {"thread_id": "1"}}
    asked = "How many legs do 3 spiders and 2 cats have?"
    first = agent.invoke({"messages": [("human", asked)]}, thread)["messages"]
    results = [message.content for message in first if isinstance(message, ToolMessage)]
    assert results == ["24", "8", "32"]
    assert first[-1].content == "They have 32 legs."
    second = agent.invoke({"messages": [("human", "And one more spider?")]}, thread)["messages"]
    assert second[-1].content == "With one more spider, 40."
    assert len(second) == len(first) + 4
    engine: Any = chat.switch.candidates["aligned"].engine
    read = engine.tokenizer.decode(engine.calls[-1][0].prefix)
    assert read.index(asked) < read.index("<|tool|>\n24") < read.index("And one more spider?")


def test_an_agents_tokens_are_streamed_with_who_wrote_them() -> None:
    agent = create_agent(agent_chat(TURNS[1:3]), tools=[count_legs, add])
    mode: StreamMode = "messages"
    chunks = [
        chunk
        for chunk, _ in agent.stream({"messages": [("human", "24 + 8?")]}, stream_mode=mode)
        if isinstance(chunk, AIMessageChunk)
    ]
    shown = [chunk for chunk in chunks if chunk.content]
    assert "".join(chunk.text for chunk in shown) == "They have 32 legs."
    assert len(shown) > 5
    assert {piece["speaker"] for chunk in shown for piece in provenance(chunk)} == {"aligned"}
    assert [call["name"] for chunk in chunks for call in chunk.tool_calls] == ["add"]


async def test_an_agent_can_be_awaited() -> None:
    agent = create_agent(agent_chat(TURNS[:3]), tools=[count_legs, add])
    found = await agent.ainvoke({"messages": [("human", "Legs?")]})
    assert found["messages"][-1].content == "They have 32 legs."


class Spider(BaseModel):
    """What is known of spiders."""

    has_wings: bool


def test_an_agent_of_the_embedded_family_returns_an_object() -> None:
    agent = create_agent(ChatSwitch.embedded(), tools=[], response_format=Spider)
    found = agent.invoke({"messages": [("human", "Does a spider have wings?")]})
    assert isinstance(found["structured_response"], Spider)


def test_an_exception_in_a_tool_leaves_the_chat_model_as_it_was() -> None:
    @tool
    def fail() -> str:
        """Fail."""
        raise RuntimeError("the tool is broken")

    chat = agent_chat([call("fail", "{}"), "Fine."])
    agent = create_agent(chat, tools=[fail])
    with pytest.raises(RuntimeError, match="the tool is broken"):
        agent.invoke({"messages": [("human", "?")]})
    engine: Any = chat.switch.candidates["aligned"].engine
    rows = {request.row for batch in engine.calls for request in batch}
    assert rows <= set(engine.released)
    assert chat.invoke("?").content == "Fine."


def test_a_node_that_invokes_streams_its_tokens() -> None:
    chat = capable_chat()

    def answer(state: MessagesState) -> Any:
        return {"messages": [chat.invoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("answer", answer)
    graph.add_edge(START, "answer")
    graph.add_edge("answer", END)
    asked: Any = {"messages": [("human", "hi")]}
    chunks = [chunk for chunk, _ in graph.compile().stream(asked, stream_mode="messages")]
    assert len(chunks) > 5
    assert isinstance(chunks[0], AIMessage)


def test_a_parent_graph_streams_the_switch_as_its_subgraph() -> None:
    class Parent(TypedDict):
        queries: list[Any]
        traces: list[Any]

    llm = SwitchLLM.embedded()
    graph = StateGraph(Parent)
    graph.add_node("switch", llm.graph)
    graph.add_edge(START, "switch")
    graph.add_edge("switch", END)
    asked: Any = {"queries": ["How many legs does a spider have?"]}
    texts = [
        event["text"]
        for _, event in graph.compile().stream(
            asked, {"recursion_limit": 1000}, stream_mode="custom", subgraphs=True
        )
        if event["type"] == "text"
    ]
    assert "".join(texts) == llm.invoke("How many legs does a spider have?")
    assert len(texts) > 5
