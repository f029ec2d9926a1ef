"""From a name to a folder on this machine, pinned and whole, and to the switch in it.

Files come through `huggingface_hub`: its cache, tokens, offline mode and checks of integrity.
Knows nothing of what is done with a switch.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from langgraph_switch.config import HeadSwitcherSpec, LMSwitcherSpec, ModelRef, SwitchConfig
from langgraph_switch.engines.repos import RepoType, fetch_repo
from langgraph_switch.errors import ConfigError
from langgraph_switch.families import family_config, family_names
from langgraph_switch.prompts.candidate import SwitchWarning
from langgraph_switch.tasks.hub import HUB_PREFIX

SWITCH = "switch.json"
CARD = "README.md"
_ADAPTER = "adapter_config.json"
_WEIGHTS = "*.safetensors"
_SAFE = ["*.json", _WEIGHTS, "*.md", "*.jinja", "*.txt", "*.model", "*.parquet", "*.jsonl"]
"""What is downloaded: data, never pickles or code."""


def pull(
    source: str | Path,
    *,
    revision: str | None = None,
    repo_type: RepoType = "model",
    token: str | None = None,
    with_weights: bool = True,
) -> Path:
    """Return a folder with what a repo holds; a local folder is returned as it is.

    A revision is resolved to its commit first, and all files are that commit's. What is cached is
    not downloaded again; with HF_HUB_OFFLINE nothing is asked.

    Args:
        source: A local folder, `user/name`, or `hf://datasets/user/name`.
        revision: Branch, tag or commit; the main branch by default.
        repo_type: Of `user/name`.
        token: Overrides what `hf auth login` has stored.
        with_weights: Whether safetensors are fetched too.

    Raises:
        ModelLoadError: The repo cannot be had; says why and what to do.
    """
    if Path(source).expanduser().is_dir():
        return Path(source).expanduser()
    repo_id = str(source)
    if repo_id.startswith(HUB_PREFIX):
        repo_id, repo_type = repo_id.removeprefix(HUB_PREFIX), "dataset"
    files = [one for one in _SAFE if with_weights or one != _WEIGHTS]
    return fetch_repo(repo_id, files, revision=revision, repo_type=repo_type, token=token)


def pull_switch(
    source: str | Path,
    *,
    revision: str | None = None,
    candidates: Mapping[str, str] | None = None,
    token: str | None = None,
) -> SwitchConfig:
    """Return the switch that a folder or repo holds; candidates are not downloaded yet.

    A repo without a `switch.json` that is a LoRA adapter is a switcher as the paper's authors
    published theirs: it gets the candidates and settings of the preset with the same base.

    Args:
        source: A local folder, a `switch.json`, or `user/name`.
        revision: Branch, tag or commit of the repo.
        candidates: Other models for some candidates, by name; a warning says what was swapped.
        token: Overrides what `hf auth login` has stored.

    Raises:
        ConfigError: It holds no switch, or one that cannot be used here.
        ModelLoadError: The repo cannot be had.
    """
    if Path(source).is_file():
        return _swapped(SwitchConfig.load(source), candidates or {})
    folder = pull(source, revision=revision, token=token)
    return _swapped(switch_in(folder, str(source)), candidates or {})


def switch_in(folder: Path, source: str) -> SwitchConfig:
    """Return the switch that a pulled folder holds.

    Args:
        folder: Where it was pulled to; or the user's own.
        source: What the user calls it.

    Raises:
        ConfigError: It holds no switch, or one that cannot be used here.
    """
    if (folder / SWITCH).is_file():
        config = SwitchConfig.load(folder)
        if folder != Path(source).expanduser():
            _refuse_foreign_paths(config, source)
    elif (folder / _ADAPTER).is_file():
        config = _published_switcher(folder, source)
    else:
        raise ConfigError(
            f"{source!r} holds no switch: there is neither a {SWITCH} nor an adapter.",
            hint="name what langgraph-switch train or push made, or a LoRA switcher",
        )
    return config


def _published_switcher(folder: Path, source: str) -> SwitchConfig:
    """Return the switch of an adapter that was published alone."""
    data = json.loads((folder / _ADAPTER).read_text(encoding="utf-8"))
    base = str(data.get("base_model_name_or_path"))
    for name in family_names():
        preset = family_config(name)
        anchor = preset.candidate(preset.anchor_name)
        if anchor.model == base:
            warnings.warn(
                f"{source!r} is an adapter alone: candidates and settings are those of the preset "
                f"{name!r}, the paper's.",
                SwitchWarning,
                stacklevel=4,
            )
            switcher = LMSwitcherSpec(candidate=anchor.name, adapter=str(folder))
            return preset.with_changes(switcher=switcher)
    raise ConfigError(
        f"{source!r} is an adapter on {base!r}, and no preset has that as its anchor.",
        hint="write a switch.json that names candidates and uses this adapter in its switcher",
    )


def _swapped(config: SwitchConfig, candidates: Mapping[str, str]) -> SwitchConfig:
    """Return the switch with some candidates replaced, and say so."""
    if not candidates:
        return config
    if unknown := sorted(set(candidates) - set(config.names)):
        raise ConfigError(
            f"There is no candidate {unknown[0]!r} to swap.",
            hint=f"use {', '.join(config.names)}",
        )
    specs = []
    for spec in config.candidates:
        other = candidates.get(spec.name)
        if other is not None:
            warnings.warn(
                f"candidate {spec.name!r} is {other!r}; the switcher was trained with "
                f"{spec.model!r}{f' at {spec.revision[:8]}' if spec.revision else ''}.",
                SwitchWarning,
                stacklevel=4,
            )
            alone = {"model": other, "revision": None, "adapter": None, "tokenizer": None}
            spec = spec.model_copy(update=alone)  # noqa: PLW2901 - the swapped one
        specs.append(spec)
    return config.with_changes(candidates=tuple(specs))


def _refuse_foreign_paths(config: SwitchConfig, source: str) -> None:
    """Refuse a pulled switch that names folders of the machine it was made on."""
    named: list[Any] = [*config.candidates, config.switcher]
    for spec in named:
        named_here: tuple[str | None, ...] = ()
        if isinstance(spec, ModelRef | LMSwitcherSpec):
            named_here = (spec.model, spec.adapter)
        elif isinstance(spec, HeadSwitcherSpec):
            named_here = (spec.head,)
        for model in filter(None, named_here):
            if model.startswith(("/", "~")) or ".." in Path(model).parts:
                raise ConfigError(
                    f"{source!r} names {model!r}, a folder of the machine where it was made.",
                    hint="ask its author to push it with its models (--with-models), or name your "
                    "own: candidates={...}",
                )
