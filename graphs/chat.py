"""The embedded family as a chat: messages in, a message out, tokens streamed on the way."""

from __future__ import annotations

from typing import Any

from langgraph.graph import END, START, MessagesState, StateGraph

from langgraph_switch import ChatSwitch

CHAT = ChatSwitch.embedded()  # One for all runs; the first of them loads its models.


async def answer(state: MessagesState) -> dict[str, Any]:
    """Return the answer to a conversation."""
    return {"messages": [await CHAT.ainvoke(state["messages"])]}


def make_graph() -> Any:
    """Return a graph whose one node answers."""
    graph = StateGraph(MessagesState)
    graph.add_node("answer", answer)
    graph.add_edge(START, "answer")
    graph.add_edge("answer", END)
    return graph.compile(name="chat")
