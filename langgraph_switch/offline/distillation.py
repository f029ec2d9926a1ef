"""The distillation graph: next_batch -> respond (again and again) -> train -> measure -> save.

The switch answers training questions; its anchor is finetuned on those answers, and then measured
on the test split next to itself before and to the switch. Knows nothing of the command line.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Checkpointer, StreamWriter
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from langgraph_switch.config import ModelRef
from langgraph_switch.engines.pool import ModelPool
from langgraph_switch.errors import ConfigError, InputError
from langgraph_switch.offline.distilled_card import distilled_card
from langgraph_switch.offline.events import OnEvent, relay
from langgraph_switch.offline.provenance import DISTILLATION
from langgraph_switch.offline.recovery import AFTER, BEFORE, SWITCHED, compare_distilled
from langgraph_switch.offline.responses import Response, respond
from langgraph_switch.offline.settings import decisive, digest
from langgraph_switch.offline.sft import Finetuned, SftRow, finetune
from langgraph_switch.offline.sft_settings import SftSettings
from langgraph_switch.offline.shards import ShardFolder, read_rows
from langgraph_switch.prompts.handover import response_ids
from langgraph_switch.solo import solo
from langgraph_switch.switch import Switch
from langgraph_switch.tasks import Example, Task

_IGNORED = -100
_EPOCHS = 4
_FULL_RATE = 2e-4
"""Gentler than a switcher's: the anchor shall learn from the answers and forget nothing."""


class DistillSettings(BaseModel):
    """Which responses are learned from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    queries: int | None = Field(default=None, ge=1)
    """How many of the training split's questions; all by default."""
    questions: int | None = Field(default=None, ge=1)
    """How many of the test split's questions measure the result; all by default."""
    min_score: float | None = None
    """Learn from responses of at least this score; from all of them by default."""
    best_of: int = Field(default=1, ge=1)
    """Answer every question so often, and learn from the best response alone."""
    seed: int = Field(default=0, ge=0)
    batch_questions: int = Field(default=64, ge=1)


@dataclass(frozen=True)
class DistillationJob:
    """What a distillation graph works on."""

    switch: Switch
    task: Task
    """Its training split is learned from, its test split measures."""
    out: Path
    settings: DistillSettings = field(default_factory=DistillSettings)
    training: SftSettings = field(default_factory=SftSettings)

    def __post_init__(self) -> None:
        """Refuse answers that could not differ.

        Raises:
            ConfigError: The best of several is asked for, and the switch is greedy.
        """
        config = self.switch.config
        is_greedy = all(config.sampling_of(one).is_greedy for one in config.candidates)
        if self.settings.best_of > 1 and is_greedy and self.switch.switcher.sampling.is_greedy:
            raise ConfigError(
                f"The switch is greedy: {self.settings.best_of} answers to a question are one.",
                hint="set a temperature (--temperature 0.7), or best_of to 1",
            )

    @property
    def sft(self) -> SftSettings:
        """How weights are trained, with distillation's own defaults for what is left open."""
        given = self.training
        rate = _FULL_RATE if given.learning_rate is None and given.method != "lora" else None
        changes = {"learning_rate": rate} if rate else {}
        return given.model_copy(update=changes | {"epochs": given.epochs or _EPOCHS})

    @property
    def work(self) -> Path:
        """What is unfinished; gone once the model is there."""
        out = self.out.resolve()
        return out.with_name(f".{out.name}.work")

    @cached_property
    def training_examples(self) -> tuple[Example, ...]:
        """The questions whose answers are learned."""
        return self._examples(self.task.train_split, self.settings.queries)

    @cached_property
    def test_examples(self) -> tuple[Example, ...]:
        """The questions that measure."""
        return self._examples(self.task.test_split, self.settings.questions)

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """Everything that decides what the distilled model is."""
        described = {
            "config": decisive(self.switch.config),
            "settings": self.settings.model_dump(mode="json"),
            "training": self.sft.model_dump(mode="json", exclude={"device"}),
            "task": self.task.record(self.task.train_split),
        }
        return {"kind": "distillation", "config_hash": digest(described), **described}

    @cached_property
    def shards(self) -> ShardFolder:
        """The switch's answers to training questions."""
        return ShardFolder(self.work / "responses", self.manifest)

    def batches(self) -> list[int]:
        """Return the batches that are not stored yet."""
        size = self.settings.batch_questions
        numbers = range(self.settings.best_of * -(-len(self.training_examples) // size))
        return [number for number in numbers if not self.shards.has(number)]

    def batch(self, number: int) -> tuple[int, Sequence[Example]]:
        """Return a batch's number of the try, and its questions."""
        size = self.settings.batch_questions
        attempt, index = divmod(number, -(-len(self.training_examples) // size))
        return attempt, self.training_examples[index * size : (index + 1) * size]

    def _examples(self, split: str, limit: int | None) -> tuple[Example, ...]:
        task = self.task if limit is None else self.task.sample(limit, seed=self.settings.seed)
        return task.split(split)


class DistillationState(TypedDict, total=False):
    """Where a run is; responses and weights are in the folders."""

    todo: list[int]
    """Batches of training questions still to be answered."""
    counts: dict[str, int]
    finetuned: dict[str, Any]
    report: dict[str, Any]


DistillationGraph = CompiledStateGraph[
    DistillationState, None, DistillationState, DistillationState
]


def distill_switch(job: DistillationJob, *, on_event: OnEvent | None = None) -> dict[str, Any]:
    """Distil a switch, or go on with it; return what `distillation.json` holds.

    The out folder appears at the end: a plain model that `AutoModelForCausalLM` loads.

    Args:
        job: What is distilled, on which questions.
        on_event: Told of `answered` responses, training `step`s and `measured` conditions.

    Raises:
        ConfigError: The out folder holds something else.
        InputError: No response is good enough to learn from.
        SwitchError: What an engine or the training raises.
    """
    if (found := _finished(job)) is not None:
        return found
    graph = build_distillation_graph(job)
    limit = 2 * len(job.batches()) + 10
    relay(graph.stream({}, {"recursion_limit": limit}, stream_mode="custom"), on_event)
    report: dict[str, Any] = json.loads((job.out / DISTILLATION).read_text(encoding="utf-8"))
    return report


def build_distillation_graph(
    job: DistillationJob | Callable[[], DistillationJob], *, checkpointer: Checkpointer = None
) -> DistillationGraph:
    """Compile the graph of a job; what is stored is not done again."""
    nodes = _Nodes(job)
    graph = StateGraph(DistillationState)
    for name in ("next_batch", "respond", "train", "measure", "save"):
        graph.add_node(name, getattr(nodes, name))
    graph.add_edge(START, "next_batch")
    graph.add_conditional_edges("next_batch", nodes.route_on, ["respond", "train"])
    graph.add_edge("respond", "next_batch")
    graph.add_edge("train", "measure")
    graph.add_edge("measure", "save")
    graph.add_edge("save", END)
    return graph.compile(checkpointer=checkpointer, name="distill")


class _Nodes:
    """The steps of a job."""

    def __init__(self, job: DistillationJob | Callable[[], DistillationJob]) -> None:
        self._given = job

    @property
    def _job(self) -> DistillationJob:
        if not isinstance(self._given, DistillationJob):
            self._given = self._given()
        return self._given

    def next_batch(self, state: DistillationState) -> DistillationState:
        """Find out what is missing."""
        return {"todo": self._job.batches() if "todo" not in state else state["todo"][1:]}

    def route_on(self, state: DistillationState) -> str:
        """Train once every training question is answered."""
        return "respond" if state["todo"] else "train"

    def respond(self, state: DistillationState, writer: StreamWriter) -> DistillationState:
        """Let the switch answer a batch of training questions."""
        job = self._job
        number = state["todo"][0]
        attempt, examples = job.batch(number)
        responses = respond(
            job.switch,
            examples,
            job.task.score,
            seed=job.settings.seed + attempt,
            on_end=lambda n: writer({"type": "answered", "responses": n}),
        )
        rows = [
            {"query_id": one.example_id, "response": json.dumps(one.to_json())} for one in responses
        ]
        job.shards.write(number, rows)
        return {}

    def train(self, state: DistillationState, writer: StreamWriter) -> DistillationState:
        """Finetune the anchor on the chosen responses."""
        del state
        job = self._job
        found = [
            Response.from_json(json.loads(row["response"])) for row in read_rows(job.shards.folder)
        ]
        chosen = choose_responses(found, min_score=job.settings.min_score)
        if not chosen:
            raise InputError(
                f"None of {len(found)} responses is good enough to learn from.",
                hint="lower --min-score",
            )
        done = finetune(
            [distillation_row(job.switch, one) for one in chosen],
            _anchor_ref(job.switch),
            work=job.work / "sft",
            settings=job.sft,
            about={"run": job.manifest["config_hash"]},
            on_step=lambda step, total, loss: writer(
                {"type": "step", "step": step, "total": total, "loss": loss}
            ),
        )
        counts = {
            "queries": len(job.training_examples),
            "responses": len(found),
            "learned_from": len(chosen),
        }
        return {"counts": counts, "finetuned": done.to_json()}

    def measure(self, state: DistillationState, writer: StreamWriter) -> DistillationState:
        """Answer the test questions with the anchor before, the switch, and the anchor after."""
        job = self._job
        done = Finetuned.from_json(state["finetuned"])
        anchor = job.switch.config.anchor_name
        contestants = {
            BEFORE: solo(job.switch, anchor),
            SWITCHED: job.switch,
            AFTER: solo(job.switch, anchor, engine=_trained_engine(job.switch, done)),
        }
        answered: dict[str, list[Response]] = {}
        for name, contestant in contestants.items():
            answered[name] = [
                response
                for batch in _batched(job.test_examples, job.settings.batch_questions)
                for response in respond(contestant, batch, job.task.score, seed=job.settings.seed)
            ]
            writer({"type": "measured", "condition": name})
        clusters = [str(one.meta.get("cluster", one.id)) for one in job.test_examples]
        return {"report": compare_distilled(answered, clusters, names=(BEFORE, SWITCHED, AFTER))}

    def save(self, state: DistillationState) -> DistillationState:
        """Put model, report and card into the out folder at once."""
        job = self._job
        done = Finetuned.from_json(state["finetuned"])
        whole = {
            "kind": "distilled model",
            **state["report"],
            "counts": state["counts"],
            "training": {k: v for k, v in done.to_json().items() if k != "folder"},
            "anchor": job.switch.config.anchor_name,
            "test": job.task.record(job.task.test_split) | {"questions": len(job.test_examples)},
            "provenance": job.manifest,
        }
        partial = job.work / "artifact"
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(done.folder, partial)
        text = json.dumps(whole, indent=2, ensure_ascii=False) + "\n"
        (partial / DISTILLATION).write_text(text, encoding="utf-8")
        distilled_card(whole, name=job.out.name).save(partial / "README.md")
        job.out.parent.mkdir(parents=True, exist_ok=True)
        partial.replace(job.out)
        shutil.rmtree(job.work, ignore_errors=True)
        return {}


def choose_responses(responses: Sequence[Response], *, min_score: float | None) -> list[Response]:
    """Return the best response to each question, the first of equals, if it is good enough."""
    best: dict[str, Response] = {}
    for one in responses:
        kept = best.get(one.example_id)
        if kept is None or _value(one) > _value(kept):
            best[one.example_id] = one
    return [one for one in best.values() if min_score is None or _value(one) >= min_score]


def distillation_row(switch: Switch, response: Response) -> SftRow:
    """Return a response as the anchor would have had to write it: its prompt, then the text.

    A response that was ended (and not cut off by the token limit) ends in the anchor's EOS.
    """
    anchor = switch.candidates[switch.config.anchor_name]
    trace = response.trace
    prompt = list(anchor.prompt.encode(trace))
    written = response_ids(trace, anchor.engine)
    if trace.finish_reason != "length":
        written = [*written, *anchor.engine.eos_token_ids[:1]]
    return SftRow(input_ids=prompt + written, labels=[_IGNORED] * len(prompt) + written)


def _anchor_ref(switch: Switch) -> ModelRef:
    config = switch.config
    spec = config.candidate(config.anchor_name)
    ref = ModelRef.model_validate(spec.model_dump(include=set(ModelRef.model_fields)))
    return ref.model_copy(update={"model": config.resolve_model(ref.model)})


def _trained_engine(switch: Switch, done: Finetuned) -> Any:
    ref = _anchor_ref(switch)
    weights = str(done.folder)
    changes: Mapping[str, Any] = (
        {"adapter": weights} if done.method == "lora" else {"model": weights, "revision": None}
    )
    pool = ModelPool(kv_cache_bytes=switch.config.limits.kv_cache_bytes)
    return pool.engine(ref.model_copy(update=changes), name=AFTER)


def _finished(job: DistillationJob) -> dict[str, Any] | None:
    """Return the report of this very run, if it was finished before.

    Raises:
        ConfigError: The out folder holds something else.
    """
    if not job.out.is_dir() or not any(job.out.iterdir()):
        return None
    file = job.out / DISTILLATION
    report = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if report.get("provenance", {}).get("config_hash") != job.manifest["config_hash"]:
        raise ConfigError(
            f"{str(job.out)!r} holds something else.", hint="name a new folder with --out"
        )
    found: dict[str, Any] = report
    return found


def _batched(examples: Sequence[Example], size: int) -> list[Sequence[Example]]:
    return [examples[start : start + size] for start in range(0, len(examples), size)]


def _value(response: Response) -> float:
    return float("-inf") if response.score is None else response.score
