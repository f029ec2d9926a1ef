"""The switch as a LangChain chat model: messages, tools, structured output."""

from langgraph_switch.chat.model import ChatSwitch

__all__ = ["ChatSwitch"]
