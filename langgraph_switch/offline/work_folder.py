"""A folder of unfinished work that belongs to one run: another run's is refused, not mixed in.

Knows nothing of what the work is.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from langgraph_switch.errors import ConfigError

_RUN = "run.json"


def open_work_folder(folder: Path, described: dict[str, Any]) -> None:
    """Begin a run's folder, or make sure that it is this run's.

    Raises:
        ConfigError: Another run's work lies there; says what differs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / _RUN
    if not file.exists():
        write_json(file, described)
        return
    found = json.loads(file.read_text(encoding="utf-8"))
    if differing := differences(found, described):
        raise ConfigError(
            f"{str(folder)!r} holds the unfinished work of another run:\n  - "
            + "\n  - ".join(differing),
            hint="use the settings that began it, name another folder, or delete this one",
        )


def differences(there: Any, now: Any, *, path: str = "") -> list[str]:
    """Return, a line each, where two JSON values differ."""
    if there and now and isinstance(there, list) and isinstance(now, list):
        there, now = dict(enumerate(there)), dict(enumerate(now))
    if isinstance(there, dict) and isinstance(now, dict):
        lines = [
            differences(there.get(key), now.get(key), path=f"{path}.{key}".lstrip("."))
            for key in sorted({*there, *now})
        ]
        return [line for some in lines for line in some]
    return [] if there == now else [f"{path}: {there!r} there, {now!r} now"]


def write_json(file: Path, data: Any) -> None:
    """Write a file, whole or not at all."""
    partial = file.with_suffix(".tmp")
    with partial.open("w", encoding="utf-8") as stream:
        stream.write(json.dumps(data, indent=2, ensure_ascii=False) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(file)
