"""Rollouts from a configuration and a task to a folder of shards, resumable at any moment.

Knows nothing of training or of the command line.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver

from langgraph_switch.config import RandomSwitcherSpec, SwitchConfig
from langgraph_switch.errors import InputError, MissingExtraError
from langgraph_switch.offline.completers import check_completer
from langgraph_switch.offline.events import OnEvent, relay
from langgraph_switch.offline.rollout import (
    RolloutGraph,
    RolloutJob,
    RolloutState,
    RolloutWork,
    build_rollout_graph,
    rollout_recursion_limit,
)
from langgraph_switch.offline.rows import summarize_rows
from langgraph_switch.offline.settings import RolloutSettings, describe_run
from langgraph_switch.offline.shards import ShardFolder
from langgraph_switch.offline.workers import Event, Workers
from langgraph_switch.switch import Switch
from langgraph_switch.switchers.simple import RandomSwitcher
from langgraph_switch.tasks import Task

_STATE = "state.sqlite"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollouts:
    """A finished collection."""

    folder: Path
    summary: dict[str, Any]
    """Rows, ties, failures, labels and mean scores by candidate."""


def prepare_rollouts(
    config: SwitchConfig,
    task: Task,
    *,
    out: str | Path,
    queries: int | None = None,
    settings: RolloutSettings | None = None,
    switch: Switch | None = None,
) -> RolloutJob:
    """Return the job of collecting rollouts, its folder opened; models are loaded on first use.

    Args:
        config: Candidates and rules; its switcher completes if `settings.completer` says so.
        task: Its training split is asked.
        out: Folder of the shards.
        queries: How many of the split's questions; all by default.
        settings: How rollouts are made.
        switch: The loaded switch of `config`, if there is one already; stays in this process.

    Raises:
        InputError: There are fewer questions than asked for.
        ConfigError: The folder holds another run's rows, or the completer needs a switcher.
    """
    settings = settings or RolloutSettings()
    split = task.train_split
    available = len(task.split(split))
    if queries is not None and queries > available:
        raise InputError(
            f"{queries} queries are asked for; split {split!r} of {task.name!r} has {available}.",
            hint=f"pass --queries {available} or fewer",
        )
    asked = task if queries is None else task.sample(queries, seed=settings.seed)
    examples = asked.split(split)
    about = asked.record(split) | {"queries": len(examples)}
    manifest = describe_run(config, settings, task=about)
    shards = ShardFolder(out, manifest)
    draws = isinstance(switch.switcher, RandomSwitcher) if switch else _draws_at_random(config)
    check_completer(settings, is_random=draws)
    return RolloutJob(
        config=config,
        loaded=switch,
        examples=examples,
        score=task.score,
        settings=settings,
        shards=shards,
    )


def collect_rollouts(
    job: RolloutJob, *, workers: Workers | None = None, on_event: OnEvent | None = None
) -> Rollouts:
    """Run a job to its end, or go on with it.

    In this process every chunk has a thread of its own in a checkpoint file beside the shards; it
    is forgotten once the shard is there. Workers begin a chunk that was broken off anew.

    Args:
        job: From `prepare_rollouts`.
        workers: Who does the chunks, instead of this process; the rows are the same.
        on_event: Told of every finished completion (`{"type": "completed", ...}`) and every
            stored chunk (`{"type": "stored", "rows": [...]}`).

    Raises:
        SwitchError: A model cannot be loaded, an engine fails, or the score itself cannot work.
        OSError: The disk is full, say; what is stored stays.
    """
    file = job.shards.folder / _STATE
    events = _events_here(job, file) if workers is None else _events_elsewhere(job, workers)
    with closing(events):  # However it ends, workers are told.
        relay(events, on_event)
    file.unlink(missing_ok=True)
    summary = summarize_rows(job.shards.rows(), job.config.names)
    return Rollouts(folder=job.shards.folder, summary=summary)


def _draws_at_random(config: SwitchConfig) -> bool:
    return isinstance(config.switcher, RandomSwitcherSpec)


def _events_elsewhere(job: RolloutJob, workers: Workers) -> Generator[Event]:
    if not (missing := job.missing_chunks()):
        return
    with closing(workers.run(RolloutWork.of(job), missing)) as done:
        for chunk, event in done:
            if event["type"] == "stored":
                job.shards.write(chunk, event["rows"])
            yield event


def _events_here(job: RolloutJob, file: Path) -> Generator[Event]:
    with _sqlite_saver(file) as saver:
        graph = build_rollout_graph(job, checkpointer=saver)
        for chunk in job.missing_chunks():
            yield from _chunk_events(graph, chunk)
            saver.delete_thread(_thread(chunk))


def _chunk_events(graph: RolloutGraph, chunk: int) -> Iterator[Event]:
    config = RunnableConfig(
        configurable={"thread_id": _thread(chunk)}, recursion_limit=rollout_recursion_limit(1)
    )
    is_under_way = bool(graph.get_state(config).tasks)  # `next` omits what is done, not applied.
    begin = None if is_under_way else RolloutState(todo=[chunk])
    yield from graph.stream(begin, config, stream_mode="custom", durability="sync")


def _thread(chunk: int) -> str:
    return f"chunk-{chunk}"


@contextmanager
def _sqlite_saver(file: Path) -> Iterator[BaseCheckpointSaver[Any]]:
    try:
        from langgraph.checkpoint.sqlite import SqliteSaver  # noqa: PLC0415 - an extra
    except ImportError as err:
        raise MissingExtraError("Resumable rollouts", extra="train") from err
    with closing(sqlite3.connect(file, check_same_thread=False)) as connection:
        yield SqliteSaver(connection)
