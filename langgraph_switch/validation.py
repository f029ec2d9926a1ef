"""From plain JSON types to a checked value, with an error that says what is wrong and where.

Knows nothing of what is checked.
"""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from langgraph_switch.errors import ConfigError

_T = TypeVar("_T", bound=BaseModel)

_FIXES = {
    "extra_forbidden": "remove it, or correct its spelling",
    "missing": "add it",
    "union_tag_not_found": 'add "kind": "lm", "head", "random" or "fixed"',
    "union_tag_invalid": 'use "kind": "lm", "head", "random" or "fixed"',
}


def validated(
    model: type[_T],
    data: dict[str, Any],
    *,
    where: str = "",
    what: str = "switch configuration",
) -> _T:
    """Return the value that data describe.

    Args:
        model: Its type.
        data: Plain JSON types.
        where: The file that they come from.
        what: What to call it in the error.

    Raises:
        ConfigError: Something is missing, unknown or out of range; says where.
    """
    try:
        return model.model_validate(data)
    except ValidationError as err:
        lines = []
        for problem in err.errors():
            path = ".".join(str(part) for part in problem["loc"])
            message = problem["msg"].removeprefix("Value error, ")
            lines.append(f"{path}: {message}" if path else message)
        place = f" in {where!r}" if where else ""
        fixes = {_FIXES.get(p["type"], "correct the value") for p in err.errors()}
        raise ConfigError(
            f"Invalid {what}{place}:\n  - " + "\n  - ".join(lines),
            hint="; ".join(sorted(fixes)),
        ) from err
