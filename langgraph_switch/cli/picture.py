"""`langgraph-switch graph`: the state machine of a switch as a mermaid picture.

The picture depends on the candidates' names alone, so no model is loaded.
"""

from __future__ import annotations

from langgraph_switch.config import CandidateSpec, PromptSpec, SwitchConfig
from langgraph_switch.engines.scripted import ScriptedEngine
from langgraph_switch.graph import build_graph
from langgraph_switch.switch import Switch


def mermaid(config: SwitchConfig) -> str:
    """Return the mermaid text of a switch's state machine."""
    plain = PromptSpec(kind="plain")
    stand_ins = SwitchConfig(
        candidates=tuple(
            CandidateSpec(name=name, model="none", prompt=plain) for name in config.names
        )
    )
    switch = Switch(stand_ins, engines={name: ScriptedEngine([]) for name in config.names})
    return build_graph(switch).get_graph().draw_mermaid()
