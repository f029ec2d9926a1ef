"""Switch Generation as a LangChain LLM.

Checkpoints of one training pipeline take turns writing segments of one response; a small
switcher decides who writes next. Importing this package is cheap: torch is loaded on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from langgraph_switch._version import __version__

if TYPE_CHECKING:
    from langgraph_switch.chat import ChatSwitch
    from langgraph_switch.chat.reply import provenance
    from langgraph_switch.checkpoint_llm import CheckpointLLM
    from langgraph_switch.config import SwitchConfig
    from langgraph_switch.engines.scripted import ScriptedEngine
    from langgraph_switch.errors import SwitchError
    from langgraph_switch.graph import build_graph
    from langgraph_switch.llm import SwitchLLM
    from langgraph_switch.switch import Switch
    from langgraph_switch.trace import Message, Segment, Trace

_HOMES = {
    "ChatSwitch": "chat",
    "CheckpointLLM": "checkpoint_llm",
    "Message": "trace",
    "ScriptedEngine": "engines.scripted",
    "Segment": "trace",
    "Switch": "switch",
    "SwitchConfig": "config",
    "SwitchError": "errors",
    "SwitchLLM": "llm",
    "Trace": "trace",
    "build_graph": "graph",
    "provenance": "chat.reply",
}

__all__ = [
    "ChatSwitch",
    "CheckpointLLM",
    "Message",
    "ScriptedEngine",
    "Segment",
    "Switch",
    "SwitchConfig",
    "SwitchError",
    "SwitchLLM",
    "Trace",
    "__version__",
    "build_graph",
    "provenance",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
