"""`langgraph-switch graph`: the state machine of a switch as a mermaid picture.

The picture depends on the candidates' names alone, so no model is loaded.
"""

from __future__ import annotations

from langgraph_switch.config import SwitchConfig
from langgraph_switch.graph import build_graph
from langgraph_switch.switch import Switch


def mermaid(config: SwitchConfig) -> str:
    """Return the mermaid text of a switch's state machine."""
    return build_graph(lambda: Switch(config), names=config.names).get_graph().draw_mermaid()
