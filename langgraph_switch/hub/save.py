"""A switch as a folder that stands on its own: `switch.json`, the switcher's weights, its reports.

Knows nothing of repos.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from langgraph_switch.config import HeadSwitcherSpec, LMSwitcherSpec, SwitchConfig
from langgraph_switch.errors import ConfigError

_REPORTS = ("README.md", "metrics.json", "evaluation.json")
_PARTS = {LMSwitcherSpec: ("model", "adapter"), HeadSwitcherSpec: ("head",)}


def save_switch(config: SwitchConfig, folder: str | Path) -> Path:
    """Write a switch into a folder and return it; candidates are named, not copied.

    What was reported of this very switch - its card, the figures of its training and evaluation -
    goes along.

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
            _copy_reports(config, source.parent, target)
    portable = config.with_absolute_models()
    if changes:
        portable = portable.with_changes(switcher=portable.switcher.model_copy(update=changes))
    portable.save(target)
    return target


def _copy_reports(config: SwitchConfig, folder: Path, target: Path) -> None:
    """Copy the reports beside a switcher, if they are of this switch and of no changed one."""
    from langgraph_switch.offline.provenance import switch_identity  # noqa: PLC0415 - hashes weights

    if not (folder / "switch.json").is_file():
        return
    if switch_identity(SwitchConfig.load(folder)) == switch_identity(config):
        for name in _REPORTS:
            if (folder / name).is_file():
                shutil.copy2(folder / name, target)
