"""Where figures came from: how a switcher was trained, and by which software.

Knows nothing of models.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from langgraph_switch._version import __version__
from langgraph_switch.config import (
    ANYWHERE,
    EMBEDDED,
    HeadSwitcherSpec,
    LMSwitcherSpec,
    SwitchConfig,
)
from langgraph_switch.offline.settings import decisive
from langgraph_switch.tasks.hub import HUB_PREFIX

METRICS = "metrics.json"
"""What training leaves beside the switch it made."""
EVALUATION = "evaluation.json"
"""What an evaluation leaves: every condition's scores, compared."""
DISTILLATION = "distillation.json"
"""What a distillation leaves beside the model it made."""

_SHA256 = re.compile("[0-9a-f]{64}")


@cache
def versions(*more: str) -> dict[str, str]:
    """Return the versions that figures depend on, of this package and what it computes with."""
    packages = {name: version(name) for name in ("torch", "transformers", *more)}
    return {"langgraph-switch": __version__, "python": platform.python_version(), **packages}


def switch_identity(config: SwitchConfig) -> dict[str, Any]:
    """Return what makes a switch this one, so that figures can be told to be of it.

    Models in folders count by their weights, wherever they were moved to; where models are held
    does not count.
    """
    found = decisive(config)
    for spec in (*found["candidates"], found["switcher"]):
        for part in {"model", "adapter", "head"} & spec.keys():
            folder = Path(config.resolve_model(spec[part]))
            if folder.is_dir():
                spec[part] = f"weights {_weights_digest(folder)}"
        for key in (*ANYWHERE, "tokenizer"):  # A tokenizer's fingerprint is a check.
            spec.pop(key, None)
    return found


def _weights_digest(folder: Path) -> str:
    total = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        total.update(_sha256(file))
    return total.hexdigest()[:16]


def _sha256(file: Path) -> bytes:
    blob = file.resolve().name
    if file.is_symlink() and _SHA256.fullmatch(blob):  # So the Hub's cache calls large files.
        return bytes.fromhex(blob)
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def on_hub(models: Iterable[str]) -> list[str]:
    """Return the repos among models, each once."""
    local = ("/", ".", "~", EMBEDDED)
    return list(dict.fromkeys(one for one in models if not one.startswith(local)))


def data_sets(sources: Iterable[str | None]) -> list[str]:
    """Return the repos among `hf://datasets/user/name[@revision][#configuration]`, each once."""
    named = [
        str(one).removeprefix(HUB_PREFIX) for one in sources if str(one).startswith(HUB_PREFIX)
    ]
    return list(dict.fromkeys(re.split("[@#]", one)[0] for one in named))


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
