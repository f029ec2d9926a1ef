"""`load_task`: a task from a file, a folder, the Hub, or by the name it was registered under.

Knows nothing of models. Data set libraries are imported when they are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path

from langgraph_switch.errors import ConfigError, InputError
from langgraph_switch.scoring import Score, ScoreSpec, make_score, score_names
from langgraph_switch.scoring.registry import unsupported_reason
from langgraph_switch.tasks.hub import FORMATS, HUB_PREFIX, read_hub, read_local
from langgraph_switch.tasks.json_files import RawTask, read_folder, read_json, read_jsonl
from langgraph_switch.tasks.rows import FieldMap, example_from_row
from langgraph_switch.tasks.splits import by_split, chosen, divided, kept_apart
from langgraph_switch.tasks.task import Task

TaskFactory = Callable[[], Task]

_registered: dict[str, TaskFactory] = {}
_DECIMAL_TOLERANCE = 0.01


def register_task(name: str, factory: TaskFactory) -> None:
    """Make a task known by name; the factory is called when it is loaded.

    Raises:
        ConfigError: Another task has that name.
    """
    if not name or _registered.get(name, factory) is not factory:
        raise ConfigError(
            f"A task cannot be called {name!r}: the name is {'taken' if name else 'empty'}.",
            hint="choose another name",
        )
    _registered[name] = factory


def task_names() -> list[str]:
    """Return the names of registered and embedded tasks."""
    return sorted({*_registered, *_embedded()})


def load_task(
    spec: str | Path,
    *,
    score: ScoreSpec | None = None,
    fields: Mapping[str, str | Sequence[str]] | FieldMap | None = None,
    splits: Mapping[str, str] | None = None,
    test_fraction: float | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> Task:
    """Load a task.

    Args:
        spec: A JSONL file (or a folder with `train.jsonl`, `test.jsonl`); a JSON file in the
            toolkit's layout; a parquet, CSV or arrow file, or a data set's folder;
            `hf://datasets/user/name[@revision][#configuration]`; or a name (`task_names()`).
        score: How answers are judged; by default what the source asks for.
        fields: Names of fields, where they are unusual: `{"query": "text"}`.
        splits: Which splits to keep, under which names: `{"dev": "train", "test": "validation"}`.
        test_fraction: Divides a source without splits into `train` and `test`.
        limit: Most examples per split, drawn with `seed`.
        seed: Which examples a limit keeps.

    Raises:
        ConfigError: There is no such score, or the source asks for one that is not offered.
        InputError: The source cannot be read; says where and what to do.
        MissingExtraError: The source or the score needs an extra that is not installed.
    """
    if isinstance(spec, str) and spec in _registered:
        task = _registered[spec]()
        task = task if score is None else task.with_score(make_score(score))
        if fields is not None or splits is not None or test_fraction is not None:
            raise ConfigError(
                f"The task {spec!r} has its own fields and splits.",
                hint="leave out fields, splits and test_fraction",
            )
    else:
        raw = _read(spec)
        names = FieldMap.of(fields)
        examples = [
            (row.split or _named_split(row.fields, names), example_from_row(row, names))
            for row in raw.rows
        ]
        found = divided(chosen(by_split(examples, raw.splits), splits), test_fraction)
        apart, left_out = kept_apart(found)
        task = Task(
            name=raw.name,
            score=_score(raw, score),
            splits=apart,
            source=raw.source,
            left_out=left_out,
        )
    return task if limit is None else task.sample(limit, seed=seed)


def _read(spec: str | Path) -> RawTask:
    text = str(spec)
    if text.startswith(HUB_PREFIX):
        return read_hub(text)
    if text in (embedded := _embedded()):
        raw = _read(embedded[text])
        return RawTask(rows=raw.rows, name=text, source=text, splits=raw.splits, score=raw.score)
    path = Path(spec).expanduser()
    if not path.exists():
        raise InputError(
            f"There is no task {text!r}: neither a file or folder nor a name.",
            hint=f"name a JSONL or JSON file, {HUB_PREFIX}user/name, or one of: "
            f"{', '.join(task_names()) or '(no names yet)'}",
        )
    if path.is_dir():
        return read_folder(path) or read_local(path)
    readers = {".jsonl": read_jsonl, ".ndjson": read_jsonl, ".json": read_json}
    readers |= dict.fromkeys(FORMATS, read_local)
    if path.suffix not in readers:
        raise InputError(
            f"{path} is of no known kind ({path.suffix or 'no ending'}).",
            hint=f"use {', '.join(readers)}",
        )
    return readers[path.suffix](path)


def _embedded() -> dict[str, Path]:
    """Return the files of the tasks that come with the package: `tiny/compose` and so on."""
    folder = Path(str(resources.files("langgraph_switch"))) / "tiny" / "tasks"
    return {f"tiny/{file.stem}": file for file in sorted(folder.glob("*.json*"))}


def _named_split(row: Mapping[str, object], names: FieldMap) -> str | None:
    value = next((row[name] for name in names.split if row.get(name) is not None), None)
    return None if value is None else str(value)


def _score(raw: RawTask, wanted: ScoreSpec | None) -> Score:
    if wanted is not None:
        return make_score(wanted)
    if raw.score is None:
        raise ConfigError(
            f"{raw.source} does not say how answers are judged.",
            hint=f"pass score=...: {', '.join(score_names())}, or package.module:function",
        )
    if reason := unsupported_reason(raw.score):
        raise ConfigError(
            f"{raw.source} asks for the score {raw.score!r}, which is not offered: {reason}.",
            hint="pass score=... with a judge (a LangChain runnable), a function or reward_model",
        )
    if raw.score == "exact_match" and any("answer_type" in row.fields for row in raw.rows):
        # TheoremQA: its decimals are measured to 1 %, as the toolkit does.
        return make_score({"name": "exact_match", "rel_tol": _DECIMAL_TOLERANCE})
    return make_score(raw.score)
