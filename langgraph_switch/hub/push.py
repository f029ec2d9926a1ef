"""From a folder to a repo: a trained switch, its rollouts, or a distilled model.

What is pushed is staged first: checked, made independent of this machine, pinned to commits.
Knows nothing of how any of it came about.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, ModelCard

from langgraph_switch.config import (
    ANYWHERE,
    EMBEDDED,
    CandidateSpec,
    LMSwitcherSpec,
    SwitchConfig,
)
from langgraph_switch.engines.load_errors import load_failures
from langgraph_switch.engines.models import load_tokenizer
from langgraph_switch.engines.repos import RepoType
from langgraph_switch.errors import ConfigError
from langgraph_switch.hub.licenses import (
    license_of_card,
    license_of_folder,
    license_of_model,
    license_of_repo,
    published,
    set_license,
)
from langgraph_switch.hub.pull import CARD, SWITCH
from langgraph_switch.offline.provenance import DISTILLATION, EVALUATION, METRICS, switch_identity
from langgraph_switch.offline.work_folder import write_json

_MANIFEST, _MODEL = "manifest.json", "config.json"
_UNSAFE = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.py", "*.sqlite*", "*.tmp")
_WEIGHTS = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")


@dataclass(frozen=True, slots=True)
class Pushed:
    """Where something was pushed to."""

    repo_id: str
    repo_type: RepoType
    commit: str
    url: str


@dataclass(frozen=True)
class _Staging:
    """What is made ready to be sent."""

    source: Path
    folder: Path
    """What will be sent; empty at first."""
    api: HfApi
    _: KW_ONLY
    name: str
    """Of the repo."""
    with_models: bool
    license_name: str | None
    evaluation: Path | None


def push(  # noqa: PLR0913 - what an upload may be told
    folder: str | Path,
    repo_id: str,
    *,
    private: bool = False,
    with_models: bool = False,
    license: str | None = None,  # noqa: A002 - the card's own word
    message: str | None = None,
    token: str | None = None,
    repo_type: RepoType | None = None,
    evaluation: str | Path | None = None,
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
        evaluation: What `evaluate` made of this very switch: its scores get into the card.

    Raises:
        ConfigError: The folder holds nothing to push, or something else than `repo_type`, or
            names models of this machine alone, or its licence is not known, or the evaluation is
            of another switch.
        ModelLoadError: The Hub refuses; says why and what to do.
    """
    source = Path(folder)
    api = HfApi(token=token)
    with tempfile.TemporaryDirectory(prefix="switch-push-") as temporary:
        staged = Path(temporary)
        found = _stage(
            _Staging(
                source,
                staged,
                api,
                name=repo_id,
                with_models=with_models,
                license_name=license,
                evaluation=None if evaluation is None else Path(evaluation),
            )
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


def _stage(staging: _Staging) -> RepoType:
    """Put what is to be pushed into a folder of its own, and return what kind of repo it is."""
    source = staging.source
    if (source / SWITCH).is_file():
        _stage_switch(staging)
        return "model"
    if staging.evaluation is not None:
        raise ConfigError(
            f"{str(source)!r} holds no switch, so {str(staging.evaluation)!r} is not its "
            "evaluation.",
            hint="leave --evaluation out",
        )
    if (source / _MANIFEST).is_file() and any(source.glob("shard-*.parquet")):
        _stage_rollouts(staging)
        return "dataset"
    if (source / _MODEL).is_file():
        _stage_model(staging)
        return "model"
    raise ConfigError(
        f"{str(source)!r} holds nothing that can be pushed.",
        hint="name a folder that langgraph-switch train, rollout or distill made",
    )


def _stage_rollouts(staging: _Staging) -> None:
    from langgraph_switch.hub.dataset_card import rollout_card  # noqa: PLC0415 - knows of rollouts

    for file in sorted(staging.source.glob("shard-*.parquet")):
        shutil.copy2(file, staging.folder)
    manifest = _portable(_read_json(staging.source / _MANIFEST))
    rollout_card(staging.source, manifest, name=staging.name).save(staging.folder / CARD)
    write_json(staging.folder / _MANIFEST, manifest)


def _stage_switch(staging: _Staging) -> None:
    source, staged = staging.source, staging.folder
    config = SwitchConfig.load(source)
    _copy_safe(source, staged)
    pinned = [_pinned(one, config, staging) for one in config.candidates]
    switcher = config.switcher
    if isinstance(switcher, LMSwitcherSpec):
        switcher = switcher.model_copy(update=ANYWHERE)
    candidates = tuple(spec.model_copy(update=ANYWHERE) for spec, _ in pinned)
    renamed = config.with_changes(candidates=candidates, switcher=switcher)
    renamed.save(staged)
    _stage_reports(staging, config, renamed)
    licenses = {name for _, name in pinned}
    agreed = licenses.pop() if len(licenses) == 1 else None
    set_license(staged, staging.license_name or agreed)


def _pinned(
    spec: CandidateSpec, config: SwitchConfig, staging: _Staging
) -> tuple[CandidateSpec, str | None]:
    """Return a candidate as the repo will name it, and its licence, if that is known."""
    model = Path(config.resolve_model(spec.model))
    if model.is_dir():
        # Whoever has this package has the embedded models.
        is_everywhere = spec.model.startswith(EMBEDDED) and not staging.with_models
        named = spec if is_everywhere else _bundled(spec, model, staging)
        return named, license_of_folder(model)
    info = published(spec, staging.api)
    read = load_tokenizer(spec.model, revision=info.sha).fingerprint
    pinned = spec.model_copy(update={"revision": info.sha, "tokenizer": read})
    return pinned, license_of_repo(info)


def _stage_model(staging: _Staging) -> None:
    """Stage a plain model; one that was distilled gets the licence of the anchor it was."""
    source, staged = staging.source, staging.folder
    _copy_safe(source, staged)
    license_name = staging.license_name or license_of_card(staged)
    if (report := _read_json(source / DISTILLATION)) is not None:
        _stage_distilled(staging, report)
        config = SwitchConfig.from_dict(report["provenance"]["config"])
        spec = config.candidate(report["anchor"])
        license_name = license_name or license_of_model(spec, config, staging.api)
    set_license(staged, license_name)


def _stage_distilled(staging: _Staging, report: dict[str, Any]) -> None:
    """Stage the report of a distillation, and its card; one that nobody edited gets a new name."""
    from langgraph_switch.hub.switch_card import title  # noqa: PLC0415 - knows of evaluations
    from langgraph_switch.offline.distilled_card import distilled_card  # noqa: PLC0415 - so does this

    write_json(staging.folder / DISTILLATION, _portable(report))
    file = staging.folder / CARD
    there = ModelCard.load(file) if file.is_file() else None
    as_made = distilled_card(report, name=title(there))
    if there is None or there.text.strip() == as_made.text.strip():
        distilled_card(report, name=staging.name).save(file)


def _stage_reports(staging: _Staging, config: SwitchConfig, renamed: SwitchConfig) -> None:
    """Put the card, and the reports that it was written from, into the staged folder."""
    from langgraph_switch.hub.switch_card import (  # noqa: PLC0415 - knows of evaluations
        read_evaluation,
        switch_card,
    )

    source, staged = staging.source, staging.folder
    folder = staging.evaluation or (source if (source / EVALUATION).is_file() else None)
    scores = None if folder is None else read_evaluation(folder, config)
    card = switch_card(renamed, source, name=staging.name, evaluation=scores)
    card.save(staged / CARD)
    if scores is not None:  # From here on it is of the switch as the repo names it.
        scores |= {"switch": switch_identity(SwitchConfig.load(staged))}
    for file, report in {EVALUATION: scores, METRICS: _read_json(source / METRICS)}.items():
        if report is not None:
            write_json(staged / file, _portable(report))


def _bundled(spec: CandidateSpec, model: Path, staging: _Staging) -> CandidateSpec:
    """Return a candidate that is a local folder as the repo will name it."""
    read = load_tokenizer(str(model)).fingerprint
    if model.resolve().is_relative_to(staging.source.resolve()):
        return spec.model_copy(update={"tokenizer": read})
    if not staging.with_models:
        raise ConfigError(
            f"Candidate {spec.name!r} is a folder of this machine ({str(model)!r}): nobody else "
            "could load it.",
            hint="push its model first and name its repo, or copy it along: --with-models "
            "(`with_models=True`)",
        )
    inside = staging.folder / "candidates" / spec.name
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


def _read_json(file: Path) -> Any:
    """Return what a file holds; None if it is not there."""
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def _portable(value: Any) -> Any:
    """Return JSON without folders of this machine: they keep their last names."""
    if isinstance(value, dict):
        return {key: _portable(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_portable(one) for one in value]
    if (
        isinstance(value, str)
        and value.startswith(("/", "~/"))
        and Path(value).expanduser().exists()
    ):
        return f"local/{Path(value).name}"
    return value
