"""The training graph: load -> split -> train -> measure -> save; rollouts in, a switch out.

What is saved is a folder with a `switch.json` that serves at once. Everything unfinished lies in
a work folder beside it, from which the same call goes on. Knows nothing of how weights are
trained or of the command line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Checkpointer, StreamWriter

from langgraph_switch.offline.events import OnEvent
from langgraph_switch.offline.head_learner import HeadLearner
from langgraph_switch.offline.head_settings import HeadSettings
from langgraph_switch.offline.learner import Learner, LMLearner
from langgraph_switch.offline.sft import Finetuned, SftSettings
from langgraph_switch.offline.switcher_artifact import ArtifactFolder, TrainedSwitcher
from langgraph_switch.offline.switcher_metrics import predict, switcher_metrics
from langgraph_switch.offline.training_rows import RolloutSource, RowSettings, load_rollouts


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """What a training graph works on."""

    rollouts: tuple[str | Path, ...]
    """Folders of rollouts, the latest round last."""
    out: Path
    base: str | None = None
    """Where the weights start: a candidate's name (the anchor by default), a path or a repo."""
    rows: RowSettings = field(default_factory=RowSettings)
    settings: SftSettings | HeadSettings = field(default_factory=SftSettings)
    """How it is trained, and so what it is: a causal LM, or a head on a candidate."""
    on_event: OnEvent | None = None
    """Told what happens; what it raises breaks the training off, to be gone on with later."""


class TrainingState(TypedDict, total=False):
    """Where a training is; plain JSON types, rows and weights stay outside."""

    is_there: bool
    """Whether the same run has been finished before."""
    counts: dict[str, Any]
    warnings: list[str]
    finetuned: dict[str, Any]
    metrics: dict[str, Any]
    folder: str


TrainingGraph = CompiledStateGraph[TrainingState, None, TrainingState, TrainingState]


def train_switcher(
    rollouts: str | Path | Sequence[str | Path],
    *,
    out: str | Path,
    base: str | None = None,
    rows: RowSettings | None = None,
    settings: SftSettings | HeadSettings | None = None,
    on_event: OnEvent | None = None,
) -> TrainedSwitcher:
    """Train a switcher on rollouts and save the switch that it makes.

    Called again after a crash it goes on; called again after the end it returns what is there.

    Args:
        rollouts: A folder of rollouts, or several rounds of the same candidates.
        out: The folder to make; it must not hold anything else.
        base: Where the weights start: a candidate's name (the anchor by default), a path or repo;
            for a head the candidate whose hidden state it reads.
        rows: Which rows are learned from, and what they say.
        settings: How it is trained: `SftSettings` for a causal LM (the default), `HeadSettings`
            for a head on a candidate's hidden state.
        on_event: Told what happens: `loaded`, `split`, `step`, `trained`, `measured`, `saved`.

    Raises:
        ConfigError: The rollouts, the settings or the folders do not go together; says how.
        ModelLoadError: The base cannot be loaded.
        EngineError: The training diverged, or the device has too little memory.
    """
    folders = (rollouts,) if isinstance(rollouts, str | Path) else tuple(rollouts)
    job = TrainingJob(
        rollouts=folders,
        out=Path(out),
        base=base,
        rows=rows or RowSettings(),
        settings=settings or SftSettings(),
        on_event=on_event,
    )
    final = build_training_graph(job).invoke({})
    return TrainedSwitcher.load(final["folder"])


def build_training_graph(job: TrainingJob, *, checkpointer: Checkpointer = None) -> TrainingGraph:
    """Compile the graph of a job; its custom stream carries the events of `on_event`."""
    nodes = _Nodes(job)
    graph = StateGraph(TrainingState)
    for name in ("load", "split", "train", "measure", "save"):
        graph.add_node(name, getattr(nodes, name))
    graph.add_edge(START, "load")
    graph.add_conditional_edges("load", _after_load, ["split", END])
    graph.add_edge("split", "train")
    graph.add_edge("train", "measure")
    graph.add_edge("measure", "save")
    graph.add_edge("save", END)
    return graph.compile(checkpointer=checkpointer, name="train_switcher")


def _after_load(state: TrainingState) -> str:
    return END if state["is_there"] else "split"


class _Nodes:
    """The steps of a job; what they read of the rollouts is read once a process."""

    def __init__(self, job: TrainingJob) -> None:
        self._job = job

    def load(self, state: TrainingState, writer: StreamWriter) -> TrainingState:
        """Read the rollouts and look at what is in the out folder already."""
        del state
        source = self._source
        is_there = self._artifact.holds_this_run()
        self._tell(writer, "loaded", rows=len(source.rows), candidates=list(source.config.names))
        return {
            "is_there": is_there,
            "warnings": list(source.warnings),
            "folder": str(self._artifact.folder),
        }

    def split(self, state: TrainingState, writer: StreamWriter) -> TrainingState:
        """Hold out queries; refuse too few rows before anything is loaded."""
        split = self._learner.split
        self._learner.check()
        warnings = [*state["warnings"], *split.warnings]
        self._tell(writer, "split", counts=split.counts, warnings=warnings)
        return {"counts": split.counts, "warnings": warnings}

    def train(self, state: TrainingState, writer: StreamWriter) -> TrainingState:
        """Train the switcher; goes on where the same run was broken off."""
        del state

        def on_step(step: int, total: int, loss: float) -> None:
            self._tell(writer, "step", step=step, total=total, loss=loss)

        done = self._learner.train(
            self._artifact.work / "sft", about={"run": self._artifact.identity}, on_step=on_step
        )
        self._tell(writer, "trained", **done.to_json())
        return {"finetuned": done.to_json()}

    def measure(self, state: TrainingState, writer: StreamWriter) -> TrainingState:
        """Let the trained switcher choose on held-out rows, as it will be served."""
        done = Finetuned.from_json(state["finetuned"])
        config = self._source.config
        labels = state["counts"]["labels"]
        held_out = self._learner.split.held_out
        metrics = switcher_metrics(
            held_out,
            predict(self._learner.served(done), held_out),
            names=config.names,
            anchor=config.anchor_name,
            majority=max(config.names, key=lambda name: int(labels[name])),
        )
        self._tell(writer, "measured", metrics=metrics)
        return {"metrics": metrics}

    def save(self, state: TrainingState, writer: StreamWriter) -> TrainingState:
        """Put the switch, its weights, figures and card into the out folder at once."""
        done = Finetuned.from_json(state["finetuned"])
        folder = self._artifact.write(
            self._source.config.with_changes(switcher=self._learner.spec(done)),
            done,
            report={
                "metrics": state["metrics"],
                "counts": state["counts"],
                "warnings": state["warnings"],
            },
            manifests=self._source.manifests,
        )
        self._tell(writer, "saved", folder=str(folder))
        return {"folder": str(folder)}

    @cached_property
    def _source(self) -> RolloutSource:
        return load_rollouts(self._job.rollouts)

    @cached_property
    def _learner(self) -> Learner:
        job = self._job
        if isinstance(job.settings, HeadSettings):
            return HeadLearner(self._source, job.base, job.rows, job.settings)
        return LMLearner(self._source, job.base, job.rows, job.settings)

    @cached_property
    def _artifact(self) -> ArtifactFolder:
        return ArtifactFolder(
            self._job.out,
            {
                "rollouts": [
                    {"config_hash": one["config_hash"], "rows": rows}
                    for one, rows in zip(
                        self._source.manifests, self._source.rows_by_folder, strict=True
                    )
                ],
                "base": self._learner.base.model_dump(mode="json", include={"model", "revision"}),
                "rows": self._job.rows.model_dump(mode="json"),
                "settings": self._learner.settings,
            },
        )

    def _tell(self, writer: StreamWriter, kind: str, **fields: Any) -> None:
        event = {"type": kind, **fields}
        writer(event)
        if self._job.on_event is not None:
            self._job.on_event(event)
