"""Rows from JSONL files and from JSON files in the layout of the follow-up toolkit (MoCo).

The layout: `{"task_type": "exact_match", "dev": [...], "test": [...]}`. Knows nothing of what
rows mean.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langgraph_switch.errors import InputError
from langgraph_switch.tasks.rows import Row
from langgraph_switch.tasks.splits import is_split_name


@dataclass(frozen=True, slots=True, kw_only=True)
class RawTask:
    """What a source holds."""

    rows: tuple[Row, ...]
    name: str
    source: str
    splits: tuple[str, ...] = ()
    """Splits that the source names, empty ones included."""
    score: str | None = None
    """The kind of score that the source asks for."""


def read_jsonl(path: Path) -> RawTask:
    """Read one JSON object per line; blank lines are passed over.

    A file called `train.jsonl`, `dev.jsonl` or `test.jsonl` is that split.

    Raises:
        InputError: A line is no JSON object; says which.
    """
    split = path.stem if is_split_name(path.stem) else None
    rows = []
    for number, line in enumerate(_read(path).split("\n"), start=1):
        if line.strip():
            where = f"{path}, line {number}"
            value = _parsed(line, where)
            rows.append(Row(fields=_object(value, where), where=where, number=number, split=split))
    return RawTask(
        rows=tuple(rows),
        name=path.parent.name if split else path.stem,
        source=path.name,
        splits=(split,) if split else (),
    )


def read_folder(path: Path) -> RawTask | None:
    """Read the splits of a folder with `train.jsonl`, `test.jsonl` ...; None if it has none."""
    files = [file for file in sorted(path.glob("*.jsonl")) if is_split_name(file.stem)]
    if not files:
        return None
    parts = [read_jsonl(file) for file in files]
    return RawTask(
        rows=tuple(row for part in parts for row in part.rows),
        name=path.resolve().name,
        source=path.resolve().name,
        splits=tuple(file.stem for file in files),
    )


def read_json(path: Path) -> RawTask:
    """Read a file in the toolkit's layout, or a plain list of rows.

    Raises:
        InputError: It is neither; says where.
    """
    data = _parsed(_read(path), str(path))
    if isinstance(data, list):
        return RawTask(rows=tuple(_listed(data, None, path)), name=path.stem, source=path.name)
    splits = {
        key: value for key, value in _object(data, str(path)).items() if isinstance(value, list)
    }
    if not splits:
        raise InputError(
            f"{path} has no list of rows; it has {', '.join(data) or 'nothing'}.",
            hint='write {"task_type": "exact_match", "dev": [...], "test": [...]}',
        )
    name = data.get("name", data.get("dataset"))
    return RawTask(
        rows=tuple(row for split, rows in splits.items() for row in _listed(rows, split, path)),
        name=name if isinstance(name, str) and name else path.stem,
        source=path.name,
        splits=tuple(splits),
        score=data.get("task_type"),
    )


def _listed(rows: list[Any], split: str | None, path: Path) -> Iterator[Row]:
    for number, value in enumerate(rows, start=1):
        where = f"{path}, {split} row {number}" if split else f"{path}, row {number}"
        yield Row(fields=_object(value, where), where=where, number=number, split=split)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as err:
        raise InputError(f"Cannot read {path}: {err.strerror}.", hint="name a file") from err
    except UnicodeDecodeError as err:
        line = err.object[: err.start].count(b"\n") + 1
        raise InputError(
            f"{path} is no UTF-8 text at line {line}.", hint="save it as UTF-8"
        ) from err


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as err:
        place = (
            f"{where}, column {err.colno}" if "\n" not in text else f"{where}, line {err.lineno}"
        )
        raise InputError(f"{place}: no valid JSON: {err.msg}.", hint="correct it there") from err
    except (ValueError, RecursionError) as err:
        raise InputError(f"{where}: no valid JSON: {err}.", hint="correct it there") from err


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(
            f"{where} holds a {type(value).__name__}, not an object.",
            hint='write {"query": "...", "answer": "..."}',
        )
    return value
