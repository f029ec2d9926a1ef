"""From a folder to a repo: a trained switch, its rollouts, or a distilled model.

What is pushed is staged first: checked, made independent of this machine, pinned to commits.
Knows nothing of how any of it came about.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, ModelCard

from langgraph_switch.config import EMBEDDED, CandidateSpec, LMSwitcherSpec, SwitchConfig
from langgraph_switch.engines.load_errors import load_failures
from langgraph_switch.engines.models import load_tokenizer
from langgraph_switch.engines.repos import RepoType
from langgraph_switch.errors import ConfigError
from langgraph_switch.hub.pull import SWITCH
from langgraph_switch.offline.work_folder import write_json

_MANIFEST, _MODEL = "manifest.json", "config.json"
_CARD = "README.md"
_OWN_LICENSE = "apache-2.0"
_UNSAFE = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.py", "*.sqlite*", "*.tmp")
_WEIGHTS = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")


@dataclass(frozen=True, slots=True)
class Pushed:
    """Where something was pushed to."""

    repo_id: str
    repo_type: RepoType
    commit: str
    url: str


def push(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool = False,
    with_models: bool = False,
    license: str | None = None,  # noqa: A002 - the card's own word
    message: str | None = None,
    token: str | None = None,
    repo_type: RepoType | None = None,
) -> Pushed:
    """Push what a folder holds; what it is follows from its files.

    Files that the repo has already are not sent again, so shards of rollouts can be pushed as
    they come.

    Args:
        folder: A trained switch, a folder of rollouts, or a distilled model.
        repo_id: `user/name`; made if it is not there.
        private: Whether a new repo is private.
        with_models: Copy candidates that are local folders into the repo.
        license: The card's licence; by default the candidates', if they agree.
        message: Of the commit.
        token: Overrides what `hf auth login` has stored.
        repo_type: What kind of repo is meant; by default what the folder is.

    Raises:
        ConfigError: The folder holds nothing to push, or something else than `repo_type`, or
            names models of this machine alone, or its licence is not known.
        ModelLoadError: The Hub refuses; says why and what to do.
    """
    source = Path(folder)
    api = HfApi(token=token)
    with tempfile.TemporaryDirectory(prefix="switch-push-") as temporary:
        staged = Path(temporary)
        found = _stage(
            source, staged, api, with_models=with_models, license_name=license, name=repo_id
        )
        if repo_type not in {None, found}:
            raise ConfigError(
                f"{str(source)!r} is a {found}, not a {repo_type}.",
                hint=f"leave --type out, or write --type {found}",
            )
        with load_failures(repo_id):
            api.create_repo(repo_id, private=private, repo_type=found, exist_ok=True)
            commit = api.upload_folder(
                folder_path=staged,
                repo_id=repo_id,
                repo_type=found,
                commit_message=message or f"Push {source.name} with langgraph-switch",
                ignore_patterns=list(_UNSAFE),
            )
    return Pushed(repo_id, found, commit=str(commit.oid), url=str(commit.commit_url))


def _stage(
    source: Path,
    staged: Path,
    api: HfApi,
    *,
    with_models: bool,
    license_name: str | None,
    name: str,
) -> RepoType:
    """Put what is to be pushed into a folder of its own, and return what kind of repo it is."""
    if (source / SWITCH).is_file():
        _stage_switch(source, staged, api, with_models=with_models, license_name=license_name)
        return "model"
    if (source / _MANIFEST).is_file() and any(source.glob("shard-*.parquet")):
        for file in sorted(source.glob("shard-*.parquet")):
            shutil.copy2(file, staged)
        manifest = _portable_manifest(json.loads((source / _MANIFEST).read_text(encoding="utf-8")))
        from langgraph_switch.hub.dataset_card import (  # noqa: PLC0415 - knows of rollouts
            rollout_card,
        )

        rollout_card(source, manifest, name=name).save(staged / _CARD)
        write_json(staged / _MANIFEST, manifest)
        return "dataset"
    if (source / _MODEL).is_file():
        _copy_safe(source, staged)
        _set_license(staged, license_name)
        return "model"
    raise ConfigError(
        f"{str(source)!r} holds nothing that can be pushed.",
        hint="name a folder that langgraph-switch train, rollout or distill made",
    )


def _stage_switch(
    source: Path, staged: Path, api: HfApi, *, with_models: bool, license_name: str | None
) -> None:
    config = SwitchConfig.load(source)
    _copy_safe(source, staged)
    specs, licenses = [], set()
    for spec in config.candidates:
        model = config.resolve_model(spec.model)
        if spec.model.startswith(EMBEDDED) and not with_models:
            licenses.add(_OWN_LICENSE)  # Whoever has this package has the model.
            specs.append(spec)
            continue
        if Path(model).is_dir():
            specs.append(_bundled(spec, Path(model), source, staged, with_models=with_models))
            continue
        with load_failures(spec.model, spec.revision):
            info = api.model_info(spec.model, revision=spec.revision)
        licenses.add(str(getattr(info.card_data, "license", None) or "unknown"))
        read = load_tokenizer(spec.model, revision=info.sha).fingerprint
        specs.append(spec.model_copy(update={"revision": info.sha, "tokenizer": read}))
    # Where models are held is this machine's affair.
    anywhere = {"device": "auto", "device_map": None, "offload": None}
    switcher = config.switcher
    if isinstance(switcher, LMSwitcherSpec):
        switcher = switcher.model_copy(update=anywhere)
    published = tuple(spec.model_copy(update=anywhere) for spec in specs)
    config.with_changes(candidates=published, switcher=switcher).save(staged)
    agreed = next(iter(licenses)) if len(licenses) == 1 and "unknown" not in licenses else None
    _set_license(staged, license_name or agreed)


def _bundled(
    spec: CandidateSpec, model: Path, source: Path, staged: Path, *, with_models: bool
) -> CandidateSpec:
    """Return a candidate that is a local folder as the repo will name it."""
    read = load_tokenizer(str(model)).fingerprint
    if model.resolve().is_relative_to(source.resolve()):
        return spec.model_copy(update={"tokenizer": read})
    if not with_models:
        raise ConfigError(
            f"Candidate {spec.name!r} is a folder of this machine ({str(model)!r}): nobody else "
            "could load it.",
            hint="push its model first and name its repo, or copy it along with --with-models",
        )
    inside = staged / "candidates" / spec.name
    inside.mkdir(parents=True)
    _copy_safe(model, inside)
    named = {"model": f"./candidates/{spec.name}", "revision": None, "tokenizer": read}
    return spec.model_copy(update=named)


def _copy_safe(source: Path, target: Path) -> None:
    shutil.copytree(
        source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*_UNSAFE, ".*")
    )
    if any(source.rglob("*.bin")) and not any(target.rglob("*.safetensors")):
        raise ConfigError(
            f"{str(source)!r} has pickled weights only, which are never pushed.",
            hint="save them again with save_pretrained, which writes safetensors",
        )


def _set_license(staged: Path, license_name: str | None) -> None:
    """Write the licence into the card.

    Raises:
        ConfigError: It is not known.
    """
    card = ModelCard.load(staged / _CARD) if (staged / _CARD).is_file() else ModelCard("")
    license_name = license_name or card.data.get("license")
    if license_name is None:
        raise ConfigError(
            "The card has no licence, and the candidates' is not known or not one and the same.",
            hint="name it: --license apache-2.0 (or another id of https://hf.co/docs/hub/repositories-licenses)",
        )
    card.data["license"] = license_name
    card.save(staged / _CARD)


def _portable_manifest(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest without folders of this machine: models keep their names."""
    config = dict(manifest["config"])
    config["candidates"] = [_portable(one) for one in config["candidates"]]
    config["switcher"] = _portable(config.get("switcher", {}))
    return manifest | {"config": config}


def _portable(spec: dict[str, Any]) -> dict[str, Any]:
    found = dict(spec)
    for key in ("model", "adapter"):
        if str(found.get(key) or "").startswith("/"):
            found[key] = f"local/{Path(found[key]).name}"
    return found
