"""Where figures came from: how a switcher was trained, and by which software.

Knows nothing of models.
"""

from __future__ import annotations

import json
import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from langgraph_switch._version import __version__
from langgraph_switch.config import HeadSwitcherSpec, LMSwitcherSpec, SwitchConfig

METRICS = "metrics.json"
"""What training leaves beside the switch it made."""


@cache
def versions(*more: str) -> dict[str, str]:
    """Return the versions that figures depend on, of this package and what it computes with."""
    packages = {name: version(name) for name in ("torch", "transformers", *more)}
    return {"langgraph-switch": __version__, "python": platform.python_version(), **packages}


def switcher_provenance(config: SwitchConfig) -> dict[str, Any]:
    """Return how the switcher of a configuration was trained, as far as its folder says so."""
    spec = config.switcher
    if isinstance(spec, HeadSwitcherSpec):
        reference = spec.head
    elif isinstance(spec, LMSwitcherSpec):
        reference = spec.adapter or spec.model or spec.candidate or ""
    else:
        return {"switcher": spec.kind}
    folder = Path(config.resolve_model(reference))
    file = folder.parent / METRICS
    if not file.is_file():
        return {"switcher": folder.name, "rollouts completed by": "not recorded"}
    metrics = json.loads(file.read_text(encoding="utf-8"))
    found: dict[str, Any] = metrics.get("provenance", {})
    completers = found.get("completers") or [found.get("completer", "not recorded")]
    return {
        "switcher": folder.parent.name,
        "rollouts completed by": ", ".join(map(str, completers)),
        "training": found,
    }
