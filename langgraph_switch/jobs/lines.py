"""The lines of a questions file: each becomes a job, or a failure that names its number.

Knows nothing of how questions are answered.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from langgraph_switch.config import SwitchConfig
from langgraph_switch.errors import InputError
from langgraph_switch.queries import trace_from_query

_QUESTION_KEYS = ("query", "input", "messages")
_ODD_CHARACTERS = re.compile("[\x7f-\x9f\u2028\u2029]")
_OPTION_KEYS = ("seed", "max_tokens", "stop", "temperature", "trace_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One question of a file."""

    line: int
    """Its line's number, from 1."""
    digest: str
    """Of the line's bytes: tells whether an old answer belongs to it."""
    query: dict[str, Any]
    """What the graph takes: `query` or `messages`, and the line's own options."""
    id: Any = None
    """The line's own `id`, given back with the answer."""
    extra: dict[str, Any] = field(default_factory=dict)
    """The line's other fields, given back with the answer."""


@dataclass(frozen=True, slots=True)
class LineFailure:
    """A line that has no answer, and why."""

    line: int
    error: Exception


def read_jobs(path: Path, config: SwitchConfig) -> tuple[list[Job], list[LineFailure]]:
    """Read a questions file; blank lines are passed over.

    Args:
        path: One JSON object (`query`, `input` or `messages`) or JSON string per line.
        config: What a line leaves open; its options are checked against it.

    Raises:
        InputError: The file cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as err:
        raise InputError(
            f"Cannot read {str(path)!r}: {err.strerror}.", hint="name a JSONL file"
        ) from err
    jobs: list[Job] = []
    failures: list[LineFailure] = []
    for number, raw in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not raw.strip():
            continue
        try:
            job = parse_line(number, raw)
            _check(job, config)
        except InputError as err:
            failures.append(LineFailure(number, err))
        else:
            jobs.append(job)
    return jobs, failures


def parse_line(number: int, raw: bytes) -> Job:
    """Return the job of one line.

    Raises:
        InputError: It is no UTF-8, no JSON, or asks no question.
    """
    value = _load(raw)
    fields = {"query": value} if isinstance(value, str) else value
    if not isinstance(fields, dict):
        raise InputError(
            f"It holds a {type(value).__name__}, not an object or a string.",
            hint='write {"query": "..."}',
        )
    asked = [key for key in _QUESTION_KEYS if fields.get(key) is not None]
    if len(asked) != 1:
        what = " and ".join(f"`{key}`" for key in asked) if asked else "none of them"
        raise InputError(
            f"It must have exactly one of `query`, `input` and `messages`, and has {what}.",
            hint='write {"query": "..."}',
        )
    key = asked[0]
    options = {name: fields[name] for name in _OPTION_KEYS if fields.get(name) is not None}
    known = {*_QUESTION_KEYS, *_OPTION_KEYS, "id"}
    return Job(
        line=number,
        digest=digest(raw.strip()),
        query={"messages" if key == "messages" else "query": fields[key]} | options,
        id=fields.get("id"),
        extra={name: value for name, value in fields.items() if name not in known},
    )


def _check(job: Job, config: SwitchConfig) -> None:
    if not trace_from_query(job.query, config).query.strip():
        raise InputError("The query is empty.", hint="ask something")


def json_line(value: Any) -> str:
    """Return a value as one line of JSON, for every reader's idea of a line.

    Some split at U+2028 or U+0085, and terminals obey U+0080 to U+009F: they are escaped.
    """
    text = json.dumps(value, ensure_ascii=False)
    return _ODD_CHARACTERS.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n"


def digest(data: bytes) -> str:
    """Return a short digest that tells two texts apart."""
    return hashlib.sha256(data).hexdigest()[:16]


def _load(raw: bytes) -> Any:
    try:
        text = raw.decode("utf-8")
        value = json.loads(text, parse_constant=_refuse_constant)
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # Half characters: "\ud800".
    except json.JSONDecodeError as err:
        raise InputError(
            f"It is no valid JSON: {err.msg} at column {err.colno}.", hint="correct that line"
        ) from err
    except (UnicodeDecodeError, UnicodeEncodeError) as err:
        raise InputError(
            f"It is no valid UTF-8 text: {err.reason}.", hint="correct that line"
        ) from err
    except (ValueError, RecursionError) as err:
        raise InputError(f"It is no valid JSON: {err}.", hint="correct that line") from err
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
