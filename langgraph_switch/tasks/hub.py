"""Rows from Hugging Face data sets: local files and folders, or the Hub (the extra `data`).

Knows nothing of what rows mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from langgraph_switch.errors import InputError, MissingExtraError
from langgraph_switch.tasks.json_files import RawTask
from langgraph_switch.tasks.rows import Row
from langgraph_switch.tasks.splits import is_split_name

HUB_PREFIX = "hf://datasets/"
FORMATS = {".parquet": "parquet", ".csv": "csv", ".arrow": "arrow"}
_ADDRESS = re.compile(r"(?P<repo>[^@#/]+/[^@#/]+)(?:@(?P<revision>[^#]+))?(?:#(?P<config>.+))?")


def read_hub(address: str) -> RawTask:
    """Read `hf://datasets/user/name`, with `@revision` and `#configuration` if wanted.

    Raises:
        InputError: The address is malformed, or the data set cannot be loaded.
        MissingExtraError: datasets is not installed.
    """
    found = _ADDRESS.fullmatch(address.removeprefix(HUB_PREFIX))
    if found is None:
        raise InputError(
            f"{address!r} names no data set.",
            hint=f"write {HUB_PREFIX}user/name, or {HUB_PREFIX}user/name@revision#configuration",
        )
    loaded = _load(address, found["repo"], found["config"], revision=found["revision"])
    return _raw(loaded, name=found["repo"].partition("/")[2], source=address)


def read_local(path: Path) -> RawTask:
    """Read a parquet, CSV or arrow file, a folder of such files, or what `save_to_disk` wrote.

    A single file is one split: the one it is called after, or none.

    Raises:
        InputError: The data set cannot be loaded.
        MissingExtraError: datasets is not installed.
    """
    name = path.resolve().name
    if path.suffix in FORMATS:
        loaded = _load(str(path), FORMATS[path.suffix], None, data_files=str(path), split="train")
        split = path.stem if is_split_name(path.stem) else None
        rows = tuple(_rows(loaded, split, str(path)))
        splits = (split,) if split else ()
        return RawTask(rows=rows, name=path.stem, source=name, splits=splits)
    if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
        loaded = _attempt(str(path), lambda: _datasets().load_from_disk(str(path)))
    else:
        loaded = _load(str(path), str(path), None)
    return _raw(loaded, name=name, source=name)


def _raw(loaded: Any, *, name: str, source: str) -> RawTask:
    if not isinstance(loaded, dict):
        return RawTask(rows=tuple(_rows(loaded, None, source)), name=name, source=source)
    rows = [row for split in loaded for row in _rows(loaded[split], split, source)]
    return RawTask(rows=tuple(rows), name=name, source=source, splits=tuple(loaded))


def _rows(dataset: Any, split: str | None, source: str) -> Iterator[Row]:
    for number, fields in enumerate(dataset, start=1):
        where = f"{source}, {split} row {number}" if split else f"{source}, row {number}"
        yield Row(fields=fields, where=where, number=number, split=split)


def _load(what: str, path: str, config: str | None, **options: Any) -> Any:
    datasets = _datasets()
    return _attempt(what, lambda: datasets.load_dataset(path, config, **options))


def _attempt(what: str, load: Any) -> Any:
    try:
        return load()
    except Exception as err:
        first = next(iter(str(err).strip().splitlines()), "")
        raise InputError(
            f"Cannot load the data set {what}: {type(err).__name__}: {first}",
            hint="check its name and configuration; go online (unset HF_HUB_OFFLINE) or name a "
            "local folder; for a private one run: hf auth login",
        ) from err


def _datasets() -> Any:
    try:
        import datasets  # noqa: PLC0415 - an extra
    except ImportError as err:
        raise MissingExtraError("A Hugging Face data set", extra="data") from err
    return datasets
