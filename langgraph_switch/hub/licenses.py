"""Under which licence a model stands, and a repo made of models.

Cards say so; knows nothing of what else is in them.
"""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi, ModelCard, ModelInfo

from langgraph_switch.config import CandidateSpec, SwitchConfig
from langgraph_switch.engines.load_errors import load_failures
from langgraph_switch.errors import ConfigError
from langgraph_switch.hub.pull import CARD, SWITCH
from langgraph_switch.offline.provenance import on_hub


def license_of_model(spec: CandidateSpec, config: SwitchConfig, api: HfApi) -> str | None:
    """Return a candidate's licence, if its folder or repo tells it."""
    folder = Path(config.resolve_model(spec.model))
    if folder.is_dir():
        return license_of_folder(folder)
    if not on_hub([spec.model]):  # A folder that is gone.
        return None
    return license_of_repo(published(spec, api))


def published(spec: CandidateSpec, api: HfApi) -> ModelInfo:
    """Return what the Hub tells of a candidate's repo.

    Raises:
        ModelLoadError: The repo cannot be looked at.
    """
    with load_failures(spec.model, spec.revision):
        return api.model_info(spec.model, revision=spec.revision)


def license_of_repo(info: ModelInfo) -> str | None:
    """Return the licence that a repo's card names, if any."""
    return getattr(info.card_data, "license", None)


def license_of_folder(folder: Path) -> str | None:
    """Return the licence of a model's folder: its card's, or that of the switch that carries it."""
    carriers = [one for one in list(folder.parents)[:2] if (one / SWITCH).is_file()]
    found = [license_of_card(one) for one in (folder, *carriers)]
    return next(filter(None, found), None)


def license_of_card(folder: Path) -> str | None:
    """Return the licence that the card of a folder names, if any."""
    file = folder / CARD
    return ModelCard.load(file).data.get("license") if file.is_file() else None


def set_license(folder: Path, license_name: str | None) -> None:
    """Write the licence into the card of a folder; without one, its own stays.

    Raises:
        ConfigError: It is not known.
    """
    license_name = license_name or license_of_card(folder)
    if license_name is None:
        raise ConfigError(
            "The card has no licence, and the candidates' is not known or not one and the same.",
            hint="name it: --license apache-2.0 (`license`; the ids are listed at "
            "https://hf.co/docs/hub/repositories-licenses)",
        )
    file = folder / CARD
    card = ModelCard.load(file) if file.is_file() else ModelCard("")
    card.data["license"] = license_name
    card.save(file)
