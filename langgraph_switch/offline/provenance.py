"""Where figures came from: how a switcher was trained, and by which software.

Knows nothing of models.
"""

from __future__ import annotations

import hashlib
import json
import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from langgraph_switch._version import __version__
from langgraph_switch.config import ANYWHERE, HeadSwitcherSpec, LMSwitcherSpec, SwitchConfig
from langgraph_switch.offline.settings import decisive

METRICS = "metrics.json"
"""What training leaves beside the switch it made."""
EVALUATION = "evaluation.json"
"""What an evaluation leaves: every condition's scores, compared."""


@cache
def versions(*more: str) -> dict[str, str]:
    """Return the versions that figures depend on, of this package and what it computes with."""
    packages = {name: version(name) for name in ("torch", "transformers", *more)}
    return {"langgraph-switch": __version__, "python": platform.python_version(), **packages}


def switch_identity(config: SwitchConfig) -> dict[str, Any]:
    """Return what makes a switch this one, so that figures can be told to be of it.

    A switcher's folder counts by its weights, wherever it was moved to; where models are held
    does not count.
    """
    found = decisive(config)
    switcher = found["switcher"]
    for part in {"model", "adapter", "head"} & switcher.keys():
        folder = Path(config.resolve_model(switcher[part]))
        if folder.is_dir():
            switcher[part] = f"weights {_weights_digest(folder)}"
    for spec in (*found["candidates"], switcher):
        for key in ANYWHERE:
            spec.pop(key, None)
    return found


def _weights_digest(folder: Path) -> str:
    total = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as stream:
            total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()[:16]


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
