"""The answers file: finished lines stay whatever happens, and a second run continues.

One JSON object per answered line, in the order in which answers end. Beside it,
`<answers>.switch.json` holds the configuration that made it. Knows nothing of models or graphs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from langgraph_switch.config import SwitchConfig
from langgraph_switch.errors import ConfigError, InputError
from langgraph_switch.jobs.lines import Job, digest, json_line

try:
    import fcntl
except ImportError:  # Windows has no advisory locks of this kind.
    fcntl = None  # type: ignore[assignment]

_MAX_DIFFERENCES = 5


class AnswerFile:
    """An answers file, opened to be continued. Closes and unlocks itself as a context manager."""

    def __init__(self, path: Path, config: SwitchConfig, *, overwrite: bool = False) -> None:
        """Open a file and find out what it already holds; a half-written last line is dropped.

        Args:
            path: Where answers go; made if it is not there.
            config: The switch that answers.
            overwrite: Start again; what was there is dropped when the first answer comes.

        Raises:
            InputError: The file cannot be written, is in use, or holds something else.
            ConfigError: Another configuration made it.
        """
        self.path = path
        self.config_path = path.with_name(f"{path.name}.switch.json")
        self._config = config
        self._config_digest = _digest_of(_comparable(config))
        self._made_by = self._config_digest
        self.done: dict[int, str] = {}
        """Answered lines: number to digest."""
        self._file = _open_locked(path)
        try:
            if not overwrite:
                self.done = self._read()
                self._refuse_other_config()
        except BaseException:
            self._file.close()
            raise
        self._is_fresh = not self.done

    def pending(self, jobs: Sequence[Job]) -> list[Job]:
        """Return the jobs that have no answer yet.

        Raises:
            InputError: An answered line has changed since, or is gone.
        """
        now = {job.line: job.digest for job in jobs}
        for line, line_digest in self.done.items():
            if now.get(line) != line_digest:
                what = "has changed since it was answered" if line in now else "is gone"
                raise InputError(
                    f"Line {line} of the questions {what}; {str(self.path)!r} belongs to the "
                    "questions as they were.",
                    hint="add new questions at the end, name another --output, or answer "
                    "everything again with --overwrite",
                )
        return [job for job in jobs if job.line not in self.done]

    def append(self, job: Job, answer: dict[str, Any]) -> None:
        """Write an answer down; when this returns, it is on the disk.

        Raises:
            InputError: The file cannot be written any more.
        """
        if self._is_fresh:
            self._start()
        record = record_of(job, answer) | {
            "line_digest": job.digest,
            "config_digest": self._config_digest,
        }
        try:
            _write_all(self._file, json_line(record).encode("utf-8"))
            os.fsync(self._file.fileno())
        except OSError as err:
            raise InputError(
                f"Cannot write to {str(self.path)!r}: {err.strerror}.",
                hint="make room, then run the same command again to continue",
            ) from err
        self.done[job.line] = job.digest

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _read(self) -> dict[int, str]:
        self._file.seek(0)
        *lines, rest = self._file.read().split(b"\n")
        done: dict[int, str] = {}
        for number, line in enumerate(lines, start=1):
            record = _record(line)
            if record is None:
                raise InputError(
                    f"Line {number} of {str(self.path)!r} is no answer of an earlier run.",
                    hint="name another --output, or replace the file with --overwrite",
                )
            done[record["line"]] = record["line_digest"]
            if record["config_digest"] != self._config_digest:
                self._made_by = record["config_digest"]
        if rest:
            if _record(rest) is None and not _begins_a_record(rest):
                raise InputError(
                    f"{str(self.path)!r} holds something else than answers of an earlier run.",
                    hint="name another --output, or replace the file with --overwrite",
                )
            self._file.truncate(sum(len(line) + 1 for line in lines))
        self._file.seek(0, os.SEEK_END)
        return done

    def _refuse_other_config(self) -> None:
        if self._made_by == self._config_digest:
            return
        raise ConfigError(
            f"{str(self.path)!r} was made with another configuration{self._differences()}",
            hint="use the same options again, name another --output, or answer everything again "
            "with --overwrite",
        )

    def _differences(self) -> str:
        """Name what differs from the configuration that made the file, as far as it is known."""
        try:
            made_by = _comparable(SwitchConfig.load(self.config_path))
        except ConfigError:
            return "."
        then, now = _flat(made_by), _flat(_comparable(self._config))
        names = sorted(name for name in then.keys() | now.keys() if then.get(name) != now.get(name))
        shown = [
            f"\n  - {name}: {_shown(then.get(name))} then, {_shown(now.get(name))} now"
            for name in names[:_MAX_DIFFERENCES]
        ]
        more = len(names) - len(shown)
        return ":" + "".join(shown) + (f"\n  - and {more} more" if more else "")

    def _start(self) -> None:
        self._is_fresh = False
        self._file.truncate(0)
        try:
            self._config.save(self.config_path)
        except OSError as err:
            raise InputError(
                f"Cannot write {str(self.config_path)!r}: {err.strerror}.",
                hint="name an --output in a folder that you may write to",
            ) from err


def record_of(job: Job, answer: dict[str, Any]) -> dict[str, Any]:
    """Return what an answers file says of a line: whose answer it is, the answer, the rest."""
    named = {"line": job.line, "id": job.id, "query": job.query.get("query")}
    if "messages" in job.query:
        named["query"] = job.query["messages"]
    return named | answer | ({"extra": job.extra} if job.extra else {})


def _open_locked(path: Path) -> FileIO:
    try:
        # Append: what another process wrote meanwhile is never overwritten.
        file = path.open("ab+", buffering=0)
    except OSError as err:
        raise InputError(
            f"Cannot write {str(path)!r}: {err.strerror}.",
            hint="name a file in a folder that exists and that you may write to",
        ) from err
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            file.close()
            raise InputError(
                f"Another run is writing {str(path)!r}.", hint="wait for it, or stop it"
            ) from err
        except OSError:  # A file system without locks.
            pass
    return file


def _write_all(file: FileIO, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    keys = {"line", "line_digest", "config_digest"}
    return value if isinstance(value, dict) and keys <= value.keys() else None


def _begins_a_record(piece: bytes) -> bool:
    start = b'{"line": '
    return piece.startswith(start) or start.startswith(piece)


def _comparable(config: SwitchConfig) -> dict[str, Any]:
    """Return what decides over answers: memory limits change the time, never a result."""
    return {key: value for key, value in config.to_dict().items() if key != "limits"}


def _digest_of(data: dict[str, Any]) -> str:
    return digest(json.dumps(data, sort_keys=True).encode("utf-8"))


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    """Return nested JSON as one level of dotted paths; candidates go by their names."""
    if isinstance(value, dict) and value:
        pairs = list(value.items())
    elif isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        pairs = [(str(one.get("name", index)), one) for index, one in enumerate(value)]
    else:
        return {path: value}
    flat: dict[str, Any] = {}
    for name, one in pairs:
        flat |= _flat(one, f"{path}.{name}" if path else name)
    return flat


def _shown(value: Any) -> str:
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False)
