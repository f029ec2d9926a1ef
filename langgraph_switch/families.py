"""Families of checkpoints by name: what `--family` takes.

Knows nothing of how models are loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

from langgraph_switch.config import SwitchConfig
from langgraph_switch.errors import ConfigError


def embedded_config() -> SwitchConfig:
    """Return the configuration of the embedded family."""
    return SwitchConfig.load(str(files("langgraph_switch") / "tiny"))


_NAMED: dict[str, Callable[[], SwitchConfig]] = {"tiny": embedded_config}


def family_names() -> list[str]:
    """Return the families that have a name."""
    return sorted(_NAMED)


def family_config(family: str | Path) -> SwitchConfig:
    """Return the configuration of a family: by name, `switch.json`, or a folder that holds one.

    Raises:
        ConfigError: There is no such family.
    """
    if isinstance(family, str) and family in _NAMED:
        return _NAMED[family]()
    if not Path(family).expanduser().exists():
        raise ConfigError(
            f"There is no family {str(family)!r}.",
            hint=f"use {', '.join(family_names())}, a switch.json, or a folder that holds one",
        )
    return SwitchConfig.load(Path(family).expanduser())
