"""A trained switcher on disk: `switch.json`, weights, `metrics.json` and a card.

The folder appears whole or not at all. Knows nothing of how a switcher is trained or measured.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

from langgraph_switch.config import (
    GREEDY,
    HeadKind,
    HeadSwitcherSpec,
    LMSwitcherSpec,
    ModelRef,
    Sampling,
    SwitchConfig,
    TrainedOn,
)
from langgraph_switch.errors import ConfigError
from langgraph_switch.offline.provenance import METRICS, versions
from langgraph_switch.offline.settings import digest
from langgraph_switch.offline.sft import Finetuned, Method
from langgraph_switch.offline.switcher_card import switcher_card
from langgraph_switch.offline.work_folder import differences, write_json

_ADAPTER_CONFIG = "adapter_config.json"
_FOLDER: dict[Method | HeadKind, str] = {
    "full": "model",
    "lora": "adapter",
    "linear": "head",
    "mlp": "head",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedSwitcher:
    """A switch whose switcher was trained; `SwitchLLM.from_config(folder)` serves it."""

    folder: Path
    metrics: dict[str, Any]
    """Accuracy, regret and calibration on held-out rows, beside three simple choices."""
    counts: dict[str, Any]
    """How many rows there were, and where they went."""
    warnings: tuple[str, ...]
    finetuned: dict[str, Any]
    """Method and why, parameters, steps, loss, speed."""

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what training left in a folder.

        Raises:
            ConfigError: It is no such folder.
        """
        report = _read_report(Path(folder))
        if report is None:
            raise ConfigError(
                f"{str(folder)!r} holds no trained switcher: there is no {METRICS} of one.",
                hint="name a folder that langgraph-switch train made",
            )
        return cls(
            folder=Path(folder),
            metrics=report["metrics"],
            counts=report["counts"],
            warnings=tuple(report["warnings"]),
            finetuned=report["training"],
        )


class ArtifactFolder:
    """Where a run's switch will be, and the work folder beside it."""

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        """Name the folder of a run; `identity` is all that makes the run what it is."""
        self.folder = folder.resolve()
        self.identity = identity

    @property
    def work(self) -> Path:
        """What is unfinished; gone once the artifact is there."""
        return self.folder.with_name(f".{self.folder.name}.work")

    @cached_property
    def run_hash(self) -> str:
        """A short hash of what makes this run this run."""
        return digest(self.identity)

    def holds_this_run(self) -> bool:
        """Return whether this very run was finished before.

        Raises:
            ConfigError: The folder holds something else.
        """
        if self.folder.is_file():
            raise ConfigError(
                f"{str(self.folder)!r} is a file.", hint="name a folder that is to be made"
            )
        if not self.folder.is_dir() or not any(self.folder.iterdir()):
            return False
        report = _read_report(self.folder)
        if report is None:
            raise ConfigError(
                f"{str(self.folder)!r} is not empty and holds no trained switcher.",
                hint="name a new folder with --out, or empty this one",
            )
        if differing := differences(report["run"], self.identity):
            raise ConfigError(
                f"{str(self.folder)!r} holds the switcher of another training:\n  - "
                + "\n  - ".join(differing),
                hint="name a new folder with --out, or delete this one",
            )
        shutil.rmtree(self.work, ignore_errors=True)
        return True

    def write(
        self,
        config: SwitchConfig,
        done: Finetuned,
        *,
        report: dict[str, Any],
        manifests: Sequence[dict[str, Any]],
    ) -> Path:
        """Put everything together in the work folder, then rename it."""
        partial = self.work / "artifact"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        shutil.copytree(done.folder, partial / _FOLDER[done.method])
        config.save(partial)
        with_weights = () if _FOLDER[done.method] == "head" else ("trl", "peft")
        whole = report | {
            "kind": "trained switcher",
            "training": {k: v for k, v in done.to_json().items() if k != "folder"},
            "run": self.identity,
            "run_hash": self.run_hash,
            "versions": versions(*with_weights),
            "provenance": _provenance(manifests),
        }
        write_json(partial / METRICS, whole)
        switcher_card(config, whole, name=self.folder.name).save(partial / "README.md")
        partial.replace(self.folder)
        shutil.rmtree(self.work, ignore_errors=True)
        return self.folder


def switcher_spec(
    config: SwitchConfig,
    *,
    method: Method,
    base: ModelRef,
    base_candidate: str | None,
    prompt: Literal["plain", "chat"],
) -> LMSwitcherSpec:
    """Return how the trained switcher is named in a `switch.json` beside its weights.

    A LoRA switcher shares its base with the candidate that it was trained on.
    """
    common: dict[str, Any] = {"prompt": prompt, **_common_fields(config)}
    if method == "full":
        return LMSwitcherSpec(model=f"./{_FOLDER['full']}", **common)
    adapter = f"./{_FOLDER['lora']}"
    if base_candidate is not None:
        return LMSwitcherSpec(candidate=base_candidate, adapter=adapter, **common)
    return LMSwitcherSpec(model=base.model, revision=base.revision, adapter=adapter, **common)


def head_spec(config: SwitchConfig, *, candidate: str) -> HeadSwitcherSpec:
    """Return how a trained head is named in a `switch.json` beside it."""
    return HeadSwitcherSpec(head="./head", candidate=candidate, **_common_fields(config))


def _common_fields(config: SwitchConfig) -> dict[str, Any]:
    """Return what every trained switcher is told: how to draw, and whom it was trained for."""
    is_greedy = all(config.sampling_of(one).is_greedy for one in config.candidates)
    known = tuple(
        TrainedOn(name=one.name, model=one.model, revision=one.revision)
        for one in config.candidates
    )
    sampling = GREEDY if is_greedy else Sampling(temperature=1.0, top_p=0.9)
    return {"sampling": sampling, "trained_on": known}


def _read_report(folder: Path) -> dict[str, Any] | None:
    file = folder / METRICS
    if not file.is_file():
        return None
    report = json.loads(file.read_text(encoding="utf-8"))
    is_ours = isinstance(report, dict) and report.get("kind") == "trained switcher"
    return report if is_ours else None


def _provenance(manifests: Sequence[dict[str, Any]]) -> dict[str, Any]:
    kept = ("config_hash", "package_version", "settings", "task", "source")
    return {
        "completers": list(dict.fromkeys(one["settings"]["completer"] for one in manifests)),
        "candidates": manifests[-1]["candidates"],
        "rollouts": [{key: one[key] for key in kept if key in one} for one in manifests],
    }
