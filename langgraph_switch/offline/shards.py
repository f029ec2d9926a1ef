"""Rows in parquet shards: written whole or not at all, never mixed with another run's.

A folder holds `manifest.json` (what made the rows) and `shard-00000.parquet` ... Knows nothing of
what the rows mean.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from langgraph_switch.errors import ConfigError, MissingExtraError
from langgraph_switch.offline.work_folder import differences, write_json

MANIFEST = "manifest.json"


class ShardFolder:
    """A growing table on disk."""

    def __init__(self, folder: str | Path, manifest: dict[str, Any]) -> None:
        """Open a folder, or begin one.

        Raises:
            ConfigError: The folder's rows were made by something else; says what differs.
        """
        self.folder = Path(folder)
        self.manifest = manifest
        self.folder.mkdir(parents=True, exist_ok=True)
        for leftover in self.folder.glob("*.tmp"):  # A writer was killed in the middle of it.
            leftover.unlink()
        file = self.folder / MANIFEST
        if not file.exists():
            write_json(file, manifest)
            return
        self._refuse_other(json.loads(file.read_text(encoding="utf-8")), manifest)

    def has(self, index: int) -> bool:
        """Return whether a shard is there, whole; one that cannot be read is written again."""
        arrow, parquet = _import_arrow()
        try:
            parquet.read_metadata(self._path(index))
        except (FileNotFoundError, arrow.ArrowInvalid):
            return False
        return True

    def write(self, index: int, rows: Sequence[dict[str, Any]]) -> Path:
        """Write a shard, replacing it if it is there."""
        arrow, parquet = _import_arrow()
        path = self._path(index)
        partial = path.with_suffix(".tmp")
        parquet.write_table(arrow.Table.from_pylist(list(rows)), partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
        return path

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield every row in the order of shards."""
        yield from read_rows(self.folder)

    def _path(self, index: int) -> Path:
        return self.folder / f"shard-{index:05d}.parquet"

    def _refuse_other(self, found: dict[str, Any], expected: dict[str, Any]) -> None:
        hash_follows = {"config_hash": None}  # From the rest: it would name no reason.
        if differing := differences(found | hash_follows, expected | hash_follows):
            raise ConfigError(
                f"{str(self.folder)!r} holds rows of another run:\n  - " + "\n  - ".join(differing),
                hint="choose another --out folder, or use the settings that made this one",
            )


class PassedOnShards(ShardFolder):
    """What a worker elsewhere writes to: nothing, since whoever receives its rows stores them."""

    def __init__(self, manifest: dict[str, Any]) -> None:
        self.folder = Path(os.devnull)
        self.manifest = manifest

    def has(self, index: int) -> bool:  # noqa: ARG002
        """Return that nothing is stored here."""
        return False

    def write(self, index: int, rows: Sequence[dict[str, Any]]) -> Path:  # noqa: ARG002
        """Leave the rows to the receiver of events."""
        return self.folder


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """Return what made a folder's rows.

    Raises:
        ConfigError: It is no such folder.
    """
    file = Path(folder) / MANIFEST
    if not file.is_file():
        raise ConfigError(
            f"{str(folder)!r} holds no rollouts: there is no {MANIFEST}.",
            hint="make them first: langgraph-switch rollout --out FOLDER",
        )
    manifest: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return manifest


def read_rows(folder: str | Path) -> Iterator[dict[str, Any]]:
    """Yield every row of a folder in the order of shards."""
    _, parquet = _import_arrow()
    for path in sorted(Path(folder).glob("shard-*.parquet")):
        yield from parquet.read_table(path).to_pylist()


def _import_arrow() -> tuple[Any, Any]:
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as err:
        raise MissingExtraError("A table of rollouts", extra="train") from err
