"""A switch as a folder that stands on its own: `switch.json` and the switcher's weights.

Knows nothing of repos.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from langgraph_switch.config import HeadSwitcherSpec, LMSwitcherSpec, SwitchConfig
from langgraph_switch.errors import ConfigError

_PARTS = {LMSwitcherSpec: ("model", "adapter"), HeadSwitcherSpec: ("head",)}


def save_switch(config: SwitchConfig, folder: str | Path) -> Path:
    """Write a switch into a folder and return it; candidates are named, not copied.

    Raises:
        ConfigError: The folder holds something else.
    """
    target = Path(folder)
    if target.exists() and any(target.iterdir()) and not (target / "switch.json").is_file():
        raise ConfigError(
            f"{str(target)!r} holds something else.", hint="name a new or an empty folder"
        )
    target.mkdir(parents=True, exist_ok=True)
    changes = {}
    for name in _PARTS.get(type(config.switcher), ()):
        reference = getattr(config.switcher, name)
        source = Path(config.resolve_model(reference)) if reference else None
        if source is not None and source.is_dir():
            shutil.copytree(source, target / name, dirs_exist_ok=True)
            changes[name] = f"./{name}"
    portable = config.with_absolute_models()
    if changes:
        portable = portable.with_changes(switcher=portable.switcher.model_copy(update=changes))
    portable.save(target)
    return target
