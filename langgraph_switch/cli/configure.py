"""From the command line's options to the configuration that is used.

Model paths become absolute, so that what `--show-config` prints works from anywhere. Knows
nothing of models.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from langgraph_switch.cli.options import SwitchOptions
from langgraph_switch.config import SwitchConfig
from langgraph_switch.errors import ConfigError
from langgraph_switch.families import family_config
from langgraph_switch.hub.pull import pull_switch


def effective_config(options: SwitchOptions) -> SwitchConfig:
    """Return the configuration that the options describe.

    Raises:
        ConfigError: Options contradict each other, or describe no valid switch.
    """
    who = {
        "--config": options.config,
        "--candidate": options.candidate,
        "--family": options.family,
    }
    given = [name for name, value in who.items() if value]
    if len(given) > 1:
        raise ConfigError(
            f"{' and '.join(given)} both say who the candidates are.", hint="give one of them"
        )
    if options.revision is not None and (options.config is None or _is_here(options.config)):
        raise ConfigError(
            "--revision is of a published switch, and none is named.",
            hint="name it: --config user/name",
        )
    if options.candidate:
        data: dict[str, Any] = {"candidates": [_candidate(one) for one in options.candidate]}
    elif options.config is not None:
        data = _described(options.config, options.revision).with_absolute_models().to_dict()
    else:
        data = family_config(options.family or "tiny").with_absolute_models().to_dict()
    if options.switcher is not None:
        data["switcher"] = _switcher(options.switcher, SwitchConfig.from_dict(data))
    _apply(options, data)
    for assignment in options.set_ or ():
        _assign(data, assignment)
    return SwitchConfig.from_dict(data)


def _described(source: str, revision: str | None) -> SwitchConfig:
    """Return the switch of a file or folder of this machine, or of a repo."""
    if _is_here(source):
        return SwitchConfig.load(source)
    return pull_switch(source, revision=revision)


def _is_here(source: str) -> bool:
    """Return whether a name is meant as a path; a typing error in one asks no server."""
    path = Path(source).expanduser()
    return path.exists() or path.suffix == ".json" or source.startswith((".", "/", "~"))


def _candidate(text: str) -> dict[str, Any]:
    name, equals, model = text.partition("=")
    if not (name and equals and model):
        raise ConfigError(
            f"--candidate {text!r} is not of the form NAME=MODEL.",
            hint="write --candidate aligned=PATH_OR_REPO",
        )
    return {"name": name, "model": _absolute(model)}


def _switcher(text: str, config: SwitchConfig) -> dict[str, Any]:
    if text == "random":
        return {"kind": "random"}
    if text in config.names:
        return {"kind": "lm", "candidate": text}
    folder = Path(text).expanduser()
    if (folder / "switch.json").is_file():
        return _trained_switcher(folder, config)
    if (folder / "adapter_config.json").is_file():
        return {"kind": "lm", "candidate": config.anchor_name, "adapter": _absolute(text)}
    return {"kind": "lm", "model": _absolute(text)}


def _trained_switcher(folder: Path, config: SwitchConfig) -> dict[str, Any]:
    """Return the switcher of another `switch.json`; it must know the candidates in this order."""
    trained = SwitchConfig.load(folder)
    if trained.names != config.names:
        raise ConfigError(
            f"The switcher in {str(folder)!r} was trained for {', '.join(trained.names)}; the "
            f"candidates here are {', '.join(config.names)}.",
            hint="name the candidates so, in that order, or train a switcher for these",
        )
    spec: dict[str, Any] = trained.with_absolute_models().to_dict()["switcher"]
    return spec


def _absolute(model: str) -> str:
    path = Path(model).expanduser()
    return str(path.resolve()) if path.is_dir() else model


def _apply(options: SwitchOptions, data: dict[str, Any]) -> None:
    """Put single options where they belong."""
    whole = {"max_tokens": options.max_tokens, "seed": options.seed, "stop": options.stop or None}
    data |= {key: value for key, value in whole.items() if value is not None}
    if options.segment is not None:
        data.setdefault("segment", {})["max_tokens"] = options.segment
    if options.batch_size is not None:
        data.setdefault("limits", {})["live_traces"] = options.batch_size
    if options.temperature is not None:
        data.setdefault("sampling", {})
        for spec in (data, *data["candidates"]):
            if "sampling" in spec:
                spec["sampling"]["temperature"] = options.temperature
    models = [*data["candidates"], data.get("switcher", {})]
    placed = {
        "device": options.device,
        "dtype": options.dtype,
        "device_map": options.device_map,
        "offload": options.offload,
    }
    for key, value in placed.items():
        for spec in models:
            if value is not None and "model" in spec:
                spec[key] = value


def _assign(data: dict[str, Any], assignment: str) -> None:
    path, equals, text = assignment.partition("=")
    if not (path and equals):
        raise ConfigError(
            f"--set {assignment!r} is not of the form KEY.PATH=JSON.",
            hint="write --set segment.max_tokens=20",
        )
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    *parents, last = path.split(".")
    target: Any = data
    for key in parents:
        target = _child(target, key, path)
    if not isinstance(target, dict):
        raise ConfigError(f"--set {path}: there is no such field.", hint="see --show-config")
    target[last] = value


def _child(parent: Any, key: str, path: str) -> Any:
    """Return a field to go into; an object that was left out is made, lists go by name."""
    if isinstance(parent, dict):
        return parent.setdefault(key, {})
    if isinstance(parent, list):
        for index, one in enumerate(parent):
            if key in (str(index), one.get("name")):
                return one
    raise ConfigError(f"--set {path}: there is no {key!r}.", hint="see --show-config")
