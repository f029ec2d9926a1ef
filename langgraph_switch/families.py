"""Families of checkpoints by name: what `--family` takes.

Knows nothing of how models are loaded.
"""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from langgraph_switch.config import SwitchConfig
from langgraph_switch.errors import ConfigError


def embedded_config() -> SwitchConfig:
    """Return the configuration of the embedded family."""
    return SwitchConfig.load(str(files("langgraph_switch") / "tiny"))


def family_names() -> list[str]:
    """Return the families that have a name: the embedded one, and the presets."""
    return ["tiny", *sorted(file.name.removesuffix(".json") for file in _presets())]


def family_config(family: str | Path) -> SwitchConfig:
    """Return the configuration of a family: by name, `switch.json`, or a folder that holds one.

    A preset names checkpoints on the Hub; nothing is downloaded here.

    Raises:
        ConfigError: There is no such family.
    """
    if family == "tiny":
        return embedded_config()
    for file in _presets():
        if file.name == f"{family}.json":
            return SwitchConfig.load(str(file))
    if not Path(family).expanduser().exists():
        raise ConfigError(
            f"There is no family {str(family)!r}.",
            hint=f"use {', '.join(family_names())}, a switch.json, or a folder that holds one",
        )
    return SwitchConfig.load(Path(family).expanduser())


def _presets() -> list[Traversable]:
    folder = files("langgraph_switch") / "presets"
    return [file for file in folder.iterdir() if file.name.endswith(".json")]
