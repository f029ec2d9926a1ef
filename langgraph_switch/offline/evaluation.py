"""The evaluation graph: next_batch -> respond (again and again) -> choose -> analyse -> report.

Every condition answers the same questions with the same seeds and token budget. Responses are
stored batch by batch, so an interrupted evaluation goes on where it was. Knows nothing of how the
switcher was trained or of the command line.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Checkpointer, StreamWriter
from typing_extensions import TypedDict

from langgraph_switch.config import SwitchConfig
from langgraph_switch.errors import ConfigError
from langgraph_switch.offline.analysis import analyse
from langgraph_switch.offline.answering import (
    FIRST,
    SECOND,
    AnsweringWork,
    Condition,
    EvaluationSettings,
    answer,
    batch_of,
    planned_conditions,
)
from langgraph_switch.offline.conditions import Responses, choosing_conditions
from langgraph_switch.offline.events import OnEvent, relay
from langgraph_switch.offline.provenance import EVALUATION, switch_identity, versions
from langgraph_switch.offline.responses import Response
from langgraph_switch.offline.settings import decisive, digest
from langgraph_switch.offline.shards import ShardFolder, read_rows
from langgraph_switch.offline.workers import Event, Workers
from langgraph_switch.report import write_report
from langgraph_switch.switch import Switch
from langgraph_switch.tasks import Example, Task


@dataclass(frozen=True)
class EvaluationJob:
    """What an evaluation graph works on."""

    switch: Switch | SwitchConfig
    """The trained switch, loaded or to be loaded on first use; a random one is compared with the
    singles alone."""
    task: Task
    """Its test split is asked."""
    out: Path
    settings: EvaluationSettings = field(default_factory=EvaluationSettings)
    about: Mapping[str, Any] | None = None
    """What the report says besides: where the switcher came from, who completed its rollouts."""

    @property
    def config(self) -> SwitchConfig:
        """The switch's configuration."""
        return self.switch.config if isinstance(self.switch, Switch) else self.switch

    @cached_property
    def examples(self) -> tuple[Example, ...]:
        """The questions."""
        limit = self.settings.questions
        task = self.task if limit is None else self.task.sample(limit, seed=self.settings.seed)
        return task.split(task.test_split)

    @cached_property
    def conditions(self) -> dict[str, Condition]:
        """By name: who answers, with which seed, at which temperature (None: the switch's own)."""
        return planned_conditions(self.switch, self.settings)

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """Everything that decides what the responses are."""
        described = {
            "config": decisive(self.config),
            "settings": self.settings.model_dump(mode="json", exclude={"leave_one_out"}),
            "task": self.task.record(self.task.test_split) | {"questions": len(self.examples)},
        }
        return {"kind": "responses", "config_hash": digest(described), **described}

    def shards(self, condition: str) -> ShardFolder:
        """Return where a condition's responses are stored.

        Raises:
            ConfigError: Those in the folder come from something else.
        """
        folder = self.out / "responses" / condition.replace(" ", "-").replace("(", "").rstrip(")")
        return ShardFolder(folder, self.manifest | {"condition": condition})

    def batches(self) -> list[tuple[str, int]]:
        """Return every batch of every condition that is not stored yet."""
        size = self.settings.batch_questions
        numbers = range(-(-len(self.examples) // size))
        missing = []
        for condition in self.conditions:
            shards = self.shards(condition)
            missing += [(condition, number) for number in numbers if not shards.has(number)]
        return missing

    def work(self) -> AnsweringWork:
        """Return the batches as units of work elsewhere.

        Raises:
            ConfigError: The switch was given loaded: only this process has it.
        """
        if isinstance(self.switch, Switch):
            raise ConfigError(
                "Workers elsewhere load their own models; this evaluation was given loaded ones.",
                hint="pass the SwitchConfig instead of the Switch",
            )
        return AnsweringWork(
            config=self.switch,
            settings=self.settings,
            examples=self.examples,
            score=self.task.score,
        )

    def batch(self, number: int) -> Sequence[Example]:
        """Return the questions of a batch."""
        return batch_of(self.examples, self.settings, number)

    def responses(self, condition: str) -> list[Response]:
        """Return a condition's stored responses in the order of the questions."""
        rows = read_rows(self.shards(condition).folder)
        return [Response.from_json(json.loads(row["response"])) for row in rows]


class EvaluationState(TypedDict, total=False):
    """Where a run is; responses are in the folder."""

    todo: list[tuple[str, int]]
    """Batches still to be answered: condition and number."""
    files: list[str]
    """What was written."""


EvaluationGraph = CompiledStateGraph[EvaluationState, None, EvaluationState, EvaluationState]


def build_evaluation_graph(
    job: EvaluationJob | Callable[[], EvaluationJob], *, checkpointer: Checkpointer = None
) -> EvaluationGraph:
    """Compile the graph of a job; stored batches are not answered again."""
    nodes = _Nodes(job)
    graph = StateGraph(EvaluationState)
    for name in ("next_batch", "respond", "analyse", "report"):
        graph.add_node(name, getattr(nodes, name))
    graph.add_edge(START, "next_batch")
    graph.add_conditional_edges("next_batch", nodes.route_on, ["respond", "analyse"])
    graph.add_edge("respond", "next_batch")
    graph.add_edge("analyse", "report")
    graph.add_edge("report", END)
    return graph.compile(checkpointer=checkpointer, name="evaluate")


class _Nodes:
    """The steps of a job."""

    def __init__(self, job: EvaluationJob | Callable[[], EvaluationJob]) -> None:
        self._given = job

    @property
    def _job(self) -> EvaluationJob:
        if not isinstance(self._given, EvaluationJob):
            self._given = self._given()
        return self._given

    def next_batch(self, state: EvaluationState) -> EvaluationState:
        """Find out what is missing."""
        return {"todo": self._job.batches() if "todo" not in state else state["todo"][1:]}

    def route_on(self, state: EvaluationState) -> str:
        """Analyse once every batch is there."""
        return "respond" if state["todo"] else "analyse"

    def respond(self, state: EvaluationState, writer: StreamWriter) -> EvaluationState:
        """Let one condition answer one batch."""
        job = self._job
        name, number = state["todo"][0]
        rows = answer(job.conditions[name], name, job.batch(number), job.task.score, writer)
        job.shards(name).write(number, rows)
        return {}

    def analyse(self, state: EvaluationState) -> EvaluationState:  # noqa: ARG002
        """Add the conditions that choose, and compare them all."""
        job = self._job
        written = {name: job.responses(name) for name in job.conditions}
        own = {
            name: found for name, found in written.items() if not name.startswith((FIRST, SECOND))
        }
        chosen = dict(choosing_conditions(job.config, own))
        analysis = analyse(
            own | chosen,
            examples=job.examples,
            names=job.config.names,
            resampled_first=_stripped(written, FIRST),
            resampled=_stripped(written, SECOND),
        )
        evaluation = {
            "about": self._about(),
            "switch": switch_identity(job.config),
            "task": job.manifest["task"],
            "analysis": analysis,
        }
        text = json.dumps(evaluation, indent=2, ensure_ascii=False) + "\n"
        (job.out / EVALUATION).write_text(text, encoding="utf-8")
        return {}

    def report(self, state: EvaluationState) -> EvaluationState:  # noqa: ARG002
        """Write the page and its pictures."""
        job = self._job
        evaluation = json.loads((job.out / EVALUATION).read_text(encoding="utf-8"))
        return {"files": [str(path) for path in write_report(job.out, evaluation)]}

    def _about(self) -> dict[str, Any]:
        job = self._job
        task = job.manifest["task"]
        config = job.config
        return {
            "candidates": ", ".join(config.names),
            "task": task["name"],
            "split": task["split"],
            "questions": len(job.examples),
            "score": task["score"]["name"],
            "seed": job.settings.seed,
            "segment": f"{config.segment.max_tokens} tokens",
            "most tokens of a response": config.max_tokens,
            **(job.about or {}),
            "config_hash": job.manifest["config_hash"],
            "versions": versions(),
        }


def evaluate_switch(
    job: EvaluationJob, *, workers: Workers | None = None, on_event: OnEvent | None = None
) -> dict[str, Any]:
    """Run an evaluation, or go on with it; return what `evaluation.json` holds.

    Args:
        job: Who is evaluated on what.
        workers: Who answers the questions, instead of this process; the answers are the same.
        on_event: Told of every finished response.

    Raises:
        InputError: The test split does not exist or is empty.
        ConfigError: The folder holds another evaluation's responses.
    """
    job.out.mkdir(parents=True, exist_ok=True)
    if workers is not None:
        with closing(_answered_elsewhere(job, workers)) as events:
            relay(events, on_event)
    graph = build_evaluation_graph(job)
    limit = 2 * len(job.batches()) + 10
    relay(graph.stream({}, {"recursion_limit": limit}, stream_mode="custom"), on_event)
    found: dict[str, Any] = json.loads((job.out / EVALUATION).read_text(encoding="utf-8"))
    return found


def _answered_elsewhere(job: EvaluationJob, workers: Workers) -> Generator[Event]:
    """Let workers answer what is missing; not in a node, which Ctrl-C would wait for."""
    if not (missing := job.batches()):
        return
    with closing(workers.run(job.work(), missing)) as done:
        for (condition, number), event in done:
            if event["type"] == "stored":
                job.shards(condition).write(number, event["rows"])
            else:
                yield event


def _stripped(written: Responses, prefix: str) -> dict[str, Sequence[Response]]:
    return {
        name.removeprefix(f"{prefix} "): found
        for name, found in written.items()
        if name.startswith(prefix)
    }
