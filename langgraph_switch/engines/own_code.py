"""Whose code a model would run: its own repo's, which a user may have read, or somebody else's.

Knows nothing of consent.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from langgraph_switch.errors import UnsafeWeightsError

_NAMES_CODE = ("config.json", "tokenizer_config.json")
_OTHER_REPO = "--"
"""`auto_map` names code as `file.Class`, or `user/name--file.Class` in another repo."""


def refuse_code_of_others(folder: str, source: str) -> None:
    """Refuse a model whose code lies in another repo: it is not what the user has read.

    Raises:
        UnsafeWeightsError: It does; says which repo.
    """
    for name in _NAMES_CODE:
        file = Path(folder) / name
        named = (
            json.loads(file.read_text(encoding="utf-8")).get("auto_map") if file.is_file() else {}
        )
        for reference in _strings(named):
            other, dashes, _ = reference.partition(_OTHER_REPO)
            if dashes and other not in {source, ""}:
                raise UnsafeWeightsError(
                    source,
                    f"its {name} wants to run code of another repo, {other!r}, of no fixed commit.",
                    hint="copy the model with that code into a folder or repo of your own, and "
                    "read it there",
                )


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _strings(one)
