"""Any Python function as a score, given itself or as `package.module:function`.

Knows nothing of what the function does.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, TypeAlias

from langgraph_switch.errors import ConfigError
from langgraph_switch.scoring.base import Answer, ScoreResult, score_each

ScoreFunction: TypeAlias = (
    Callable[[Answer], float | ScoreResult] | Callable[[str, Sequence[str]], float | ScoreResult]
)


class FunctionScore:
    """Judges each answer with a function.

    The function takes one `Answer`, or the response and its references as two texts:

    Example:
        ```python
        FunctionScore(lambda response, references: float(references[0] in response))
        FunctionScore(lambda answer: -len(answer.response), name="brevity")
        ```

    Raises:
        ConfigError: It takes neither one nor two positional arguments.
    """

    def __init__(
        self, function: ScoreFunction, *, name: str = "", needs_references: bool | None = None
    ) -> None:
        takes_texts = _num_arguments(function) > 1
        self._judge: Callable[[Answer], Any] = (
            (lambda answer: function(answer.response, answer.references))  # type: ignore[call-arg,arg-type]
            if takes_texts
            else function  # type: ignore[assignment]
        )
        self._name = name or f"{function.__module__}:{_name_of(function)}"
        self._needs_references = takes_texts if needs_references is None else needs_references

    @property
    def name(self) -> str:
        """The function's import path, or the name it was given."""
        return self._name

    @property
    def needs_references(self) -> bool:
        """By default, whether the function is given them."""
        return self._needs_references

    def __call__(self, answers: Sequence[Answer]) -> list[ScoreResult]:
        """Return what the function returns per answer; a row for which it raises is marked."""
        return score_each(self._judge, answers)


def import_object(path: str) -> Any:
    """Return what `package.module:name` names.

    Raises:
        ConfigError: There is no such module, or it has no such name.
    """
    module_name, _, name = path.partition(":")
    try:
        found = import_module(module_name)
    except ImportError as err:
        raise ConfigError(
            f"Cannot import {module_name!r}, named by {path!r}: {err}",
            hint="write package.module:name, and run where the package can be imported",
        ) from err
    try:
        for part in name.split("."):
            found = getattr(found, part)
    except AttributeError as err:
        raise ConfigError(
            f"Module {module_name!r} has no {name!r}.", hint="check the name behind the colon"
        ) from err
    return found


def _name_of(function: Callable[..., Any]) -> str:
    return function.__qualname__ if inspect.isroutine(function) else type(function).__qualname__


def _num_arguments(function: Callable[..., Any]) -> int:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # Some built-in functions tell nothing about themselves.
        return 1
    required = [
        one
        for one in parameters
        if one.kind in {one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD} and one.default is one.empty
    ]
    if len(required) not in {1, 2}:
        raise ConfigError(
            f"The score function {function!r} needs {len(required)} arguments.",
            hint="let it take one Answer, or the response and its references",
        )
    return len(required)
