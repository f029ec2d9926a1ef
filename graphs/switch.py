"""The embedded switch as a compiled graph, for `langgraph dev`, Studio and notebooks."""

from __future__ import annotations

from typing import Any

from langgraph_switch import SwitchLLM

LLM = SwitchLLM.embedded()  # One for all runs; the first of them loads its models.


def make_graph() -> Any:
    """Return decide -> generate -> append over the embedded family."""
    return LLM.graph
