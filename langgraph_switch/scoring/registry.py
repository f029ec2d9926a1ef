"""Scores by name, for configuration files and the command line.

| written | score |
|---|---|
| `exact_match`, `numeric`, `multiple_choice`, `f1`, `math` | of that name |
| `reward_model`, `reward_model:FOLDER_OR_REPO` | the default reward model, or that one |
| `judge:package.module:runnable` | a LangChain runnable that grades |
| `package.module:function` | a Python function |
| `{"name": "numeric", "rel_tol": 0.01}` | with settings |

A score's module is imported when it is asked for. Knows nothing of data sets.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias, get_type_hints

from pydantic import TypeAdapter, ValidationError

from langgraph_switch.errors import ConfigError
from langgraph_switch.scoring.base import Score
from langgraph_switch.scoring.functions import FunctionScore, import_object

if TYPE_CHECKING:
    from langchain_core.runnables import Runnable

ScoreSpec: TypeAlias = "str | Mapping[str, Any] | Score | Callable[..., Any] | Runnable[Any, Any]"

_HOMES = {
    "exact_match": "exact:ExactMatch",
    "numeric": "numeric:Numeric",
    "multiple_choice": "choices:MultipleChoice",
    "f1": "f1:TokenF1",
    "math": "math_equivalence:MathEquivalence",
    "reward_model": "reward_model:RewardModel",
}
_ALIASES = {"f1_match": "f1"}
_UNSUPPORTED = {
    "noncompliance": "it would have to tell a refusal by its wording",
    "coding": "it would run code that a model wrote",
    "kernel_bench": "it would run code that a model wrote",
    "general_verifier": "it is a model's opinion",
    "text_generation": "it has no right answers",
    "generation_diversity": "it compares many responses with each other",
}
_registered: dict[str, Callable[..., Score]] = {}


def score_names() -> list[str]:
    """Return the names that `make_score` knows, function paths aside."""
    return sorted({*_HOMES, *_registered, "judge", "callable"})


def register_score(name: str, factory: Callable[..., Score]) -> None:
    """Make a score known by name; its settings become the factory's keyword arguments.

    Raises:
        ConfigError: The name is taken, or holds a colon.
    """
    if name in {*score_names(), *_ALIASES} or ":" in name or not name:
        raise ConfigError(
            f"A score cannot be called {name!r}.", hint="choose a name that is free, without ':'"
        )
    _registered[name] = factory


def make_score(spec: ScoreSpec) -> Score:
    """Return the score that a name, a mapping, a function, a runnable or a score means.

    Raises:
        ConfigError: There is no such score, or it has no such settings.
        MissingExtraError: It needs an extra that is not installed.
    """
    if isinstance(spec, str):
        return _from_text(spec)
    if isinstance(spec, Mapping):
        settings = dict(spec)
        return _from_name(str(settings.pop("name", "")), settings)
    if isinstance(spec, Score):
        return spec
    judge = import_module("langgraph_switch.scoring.judge")
    if isinstance(spec, judge.Runnable):
        return _as_score(judge.JudgeScore(spec))
    if callable(spec):
        return FunctionScore(spec)
    raise ConfigError(
        f"{spec!r:.80} is no score.", hint=f"use one of {', '.join(score_names())}, or a function"
    )


def unsupported_reason(name: str) -> str | None:
    """Return why a score that others have is not offered here, or None."""
    return _UNSUPPORTED.get(name)


def _from_text(text: str) -> Score:
    name, colon, argument = text.partition(":")
    if not colon:
        return _from_name(name, {})
    keys = {"reward_model": "model", "judge": "runnable", "callable": "function"}
    if name in keys:
        return _from_name(name, {keys[name]: argument})
    if name in {*score_names(), *_ALIASES}:
        raise ConfigError(f"The score {name!r} takes nothing behind a colon.", hint=f"write {name}")
    return _from_name("callable", {"function": text})


def _from_name(name: str, settings: dict[str, Any]) -> Score:
    name = _ALIASES.get(name, name)
    if name == "callable":
        return _from_paths(FunctionScore, "function", settings)
    if name == "judge":
        judge = import_module("langgraph_switch.scoring.judge")
        return _from_paths(judge.JudgeScore, "runnable", settings)
    if name in _registered:
        return _built(name, _registered[name], settings)
    if name in _HOMES:
        module, _, kind = _HOMES[name].partition(":")
        factory = getattr(import_module(f"langgraph_switch.scoring.{module}"), kind)
        return _built(name, factory, _checked(name, factory, settings))
    if reason := unsupported_reason(name):
        raise ConfigError(
            f"There is no score {name!r}: {reason}.",
            hint="give a judge (a LangChain runnable), a function, or reward_model",
        )
    raise ConfigError(
        f"There is no score {name!r}." if name else "The score has no name.",
        hint=f"use one of {', '.join(score_names())}, or package.module:function",
    )


def _from_paths(factory: Callable[..., Any], key: str, settings: dict[str, Any]) -> Score:
    """Build a score around an object that the settings name by its import path."""
    name = "judge" if key == "runnable" else "callable"
    if key not in settings:
        raise ConfigError(
            f"The score {name!r} needs `{key}`.", hint=f'add "{key}": "package.module:name"'
        )
    others = {one: value for one, value in settings.items() if one != key}
    path = settings[key]
    found = import_object(path) if isinstance(path, str) else path
    return _built(name, lambda **more: factory(found, **more), others)


def _built(name: str, factory: Callable[..., Any], settings: dict[str, Any]) -> Score:
    try:
        return _as_score(factory(**settings))
    except TypeError as err:
        raise ConfigError(
            f"The score {name!r} cannot be made with {sorted(settings)}: {err}",
            hint="remove what it does not take",
        ) from err


def _checked(name: str, kind: type[Any], settings: dict[str, Any]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    known = [one.name for one in dataclasses.fields(kind) if one.init]
    checked = {}
    for key, value in settings.items():
        if key not in known:
            raise ConfigError(
                f"The score {name!r} has no setting {key!r}.", hint=f"it has {', '.join(known)}"
            )
        try:
            checked[key] = TypeAdapter(hints[key]).validate_python(value)
        except ValidationError as err:
            problem = err.errors()[0]["msg"]
            raise ConfigError(
                f"The score {name!r}: {key} is {value!r}. {problem}.", hint="correct the value"
            ) from err
    return checked


def _as_score(found: Any) -> Score:
    if not isinstance(found, Score):
        raise ConfigError(
            f"{found!r:.80} is no score.", hint="give it name, needs_references and __call__"
        )
    return found
