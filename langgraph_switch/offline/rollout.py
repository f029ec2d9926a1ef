"""The rollout graph: prefix -> branch -> complete -> store, chunk by chunk of queries.

For every query a response is written by a switching policy and cut at a random place; there every
candidate writes one segment, and each of these branches is completed k times and scored. The
candidate with the best mean is the label (paper, section 3.2). A chunk's rows are stored as one
shard, so a crash loses at most the chunk in flight and never doubles a row.
Knows nothing of training or of the command line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Checkpointer, StreamWriter
from typing_extensions import TypedDict

from langgraph_switch.config import SwitchConfig
from langgraph_switch.errors import ConfigError
from langgraph_switch.floor import Decision
from langgraph_switch.loop import finish_traces
from langgraph_switch.offline.completers import make_completer
from langgraph_switch.offline.labels import can_still_win, early_stop_looks
from langgraph_switch.offline.responses import fresh_trace
from langgraph_switch.offline.rows import rollout_row
from langgraph_switch.offline.settings import RolloutSettings
from langgraph_switch.offline.shards import PassedOnShards, ShardFolder
from langgraph_switch.offline.workers import Event
from langgraph_switch.scoring import Score, ScoreResult, score_answers
from langgraph_switch.seeds import derive_seed, derive_uniform
from langgraph_switch.switch import Switch
from langgraph_switch.switchers.base import Turn
from langgraph_switch.tasks import Example
from langgraph_switch.trace import Segment, Trace


@dataclass(frozen=True, kw_only=True)
class RolloutJob:
    """What a rollout graph works on."""

    config: SwitchConfig
    """Candidates and rules."""
    examples: Sequence[Example]
    score: Score
    settings: RolloutSettings
    shards: ShardFolder
    loaded: Switch | None = None
    """The switch of `config`, if it was loaded before."""

    @cached_property
    def switch(self) -> Switch:
        """The switch under the policy that writes prefixes and completions; loaded on first use."""
        switch = self.loaded or Switch(self.config)
        return switch.with_switcher(make_completer(self.settings, self.config, switch.switcher))

    @property
    def num_chunks(self) -> int:
        """Shards of the whole job."""
        return -(-len(self.examples) // self.settings.chunk_queries)

    def chunk(self, index: int) -> Sequence[Example]:
        """Return the examples of one shard."""
        size = self.settings.chunk_queries
        return self.examples[index * size : (index + 1) * size]

    def missing_chunks(self) -> list[int]:
        """Return the chunks without a shard."""
        return [index for index in range(self.num_chunks) if not self.shards.has(index)]


class RolloutState(TypedDict, total=False):
    """Where a run is; traces as plain JSON types."""

    todo: list[int]
    """Chunks to be done; every one without a shard, if not given."""
    chunk: int | None
    """The chunk in flight; None when there is none left."""
    prefixes: list[dict[str, Any]]
    """Per query of the chunk its prefix trace and `cut`."""
    branches: list[list[dict[str, Any]]]
    """Per query and candidate the prefix with that candidate's segment."""
    scores: list[list[list[float | None]]]
    """Per query and candidate the scores of its completions; None where scoring failed."""
    errors: list[str | None]
    """Per query why a score failed."""


RolloutGraph = CompiledStateGraph[RolloutState, None, RolloutState, RolloutState]
MakeJob = Callable[[], RolloutJob]


def build_rollout_graph(
    job: RolloutJob | MakeJob, *, checkpointer: Checkpointer = None
) -> RolloutGraph:
    """Compile the graph of a job.

    Stored shards are skipped, so calling it again goes on where an earlier run ended; with a
    checkpointer the chunk in flight is resumed at the step that was not finished.

    Args:
        job: What to work on, or how to make it: called when the graph runs for the first time.
        checkpointer: Keeps the state of the chunk in flight.
    """
    nodes = _Nodes(job)
    graph = StateGraph(RolloutState)
    for name in ("next_chunk", "prefix", "branch", "complete", "store"):
        graph.add_node(name, getattr(nodes, name))
    graph.add_edge(START, "next_chunk")
    graph.add_conditional_edges("next_chunk", nodes.route_on, ["prefix", END])
    graph.add_edge("prefix", "branch")
    graph.add_edge("branch", "complete")
    graph.add_edge("complete", "store")
    graph.add_edge("store", "next_chunk")
    return graph.compile(checkpointer=checkpointer, name="rollout")


def rollout_recursion_limit(num_chunks: int) -> int:
    """Return the super-steps that a run over so many chunks may take."""
    return 5 * num_chunks + 2


@dataclass(frozen=True)
class RolloutWork:
    """Chunks of a job as units of work elsewhere: their rows come back in the event `stored`."""

    job: RolloutJob

    @classmethod
    def of(cls, job: RolloutJob) -> RolloutWork:
        """Return a job's work, without its loaded models and its folder.

        Raises:
            ConfigError: The job was given models that only this process has.
        """
        if job.loaded is not None:
            raise ConfigError(
                "Workers elsewhere load their own models; this job was given loaded ones.",
                hint="leave out switch=, so that they are loaded from the configuration",
            )
        return cls(replace(job, shards=PassedOnShards(job.shards.manifest)))

    def start(self) -> Callable[[int], Iterator[Event]]:
        """Load the models; return what makes a chunk's rows."""
        graph = build_rollout_graph(self.job)
        limit = rollout_recursion_limit(1)

        def chunk_events(chunk: int) -> Iterator[Event]:
            begin = RolloutState(todo=[chunk])
            return graph.stream(begin, {"recursion_limit": limit}, stream_mode="custom")

        return chunk_events


class _Nodes:
    """The steps of a job."""

    def __init__(self, job: RolloutJob | MakeJob) -> None:
        self._given = job

    @property
    def _job(self) -> RolloutJob:
        if not isinstance(self._given, RolloutJob):
            self._given = self._given()
        return self._given

    @property
    def _switch(self) -> Switch:
        return self._job.switch

    def next_chunk(self, state: RolloutState) -> RolloutState:
        """Take the next chunk without a shard."""
        given = state.get("todo")
        todo = self._job.missing_chunks() if given is None else list(given)
        while todo and self._job.shards.has(todo[0]):
            todo.pop(0)
        chunk = todo.pop(0) if todo else None
        return {"todo": todo, "chunk": chunk, "prefixes": [], "branches": [], "scores": []}

    def route_on(self, state: RolloutState) -> str:
        """Stop behind the last chunk."""
        return END if state["chunk"] is None else "prefix"

    def prefix(self, state: RolloutState) -> RolloutState:
        """Write a whole response per query and cut it at a random place."""
        examples = self._examples(state)
        seed = self._job.settings.seed
        fresh = [fresh_trace(self._switch, example, seed=seed) for example in examples]
        turns = [Turn(trace, _row(example)) for example, trace in zip(examples, fresh, strict=True)]
        whole = finish_traces(self._switch, turns)
        cuts = [self._cut_share(trace) for trace in whole]
        opens = self._switch.config.anchor.first
        return {
            "prefixes": [
                {"cut": cut, "trace": cut_prefix(trace, cut, opens=opens).to_json()}
                for trace, cut in zip(whole, cuts, strict=True)
            ]
        }

    def branch(self, state: RolloutState) -> RolloutState:
        """Let every candidate write one segment behind every prefix."""
        examples = self._examples(state)
        prefixes = [Trace.from_json(prefix["trace"]) for prefix in state["prefixes"]]
        branches: list[list[dict[str, Any]]] = [[] for _ in prefixes]
        for speaker in self._switch.config.names:
            # The same row for every speaker: completions fork the prefix from it on every engine.
            turns = [
                Turn(trace, _row(example))
                for example, trace in zip(examples, prefixes, strict=True)
            ]
            decision = Decision(speaker=speaker, decided_by="fixed")
            ready = self._switch.with_cues(speaker, turns)
            drafts = self._switch.write(speaker, ready, [decision] * len(ready))
            for index, (turn, draft) in enumerate(zip(ready, drafts, strict=True)):
                branches[index].append(self._switch.append(turn.trace, draft).to_json())
        return {"branches": branches}

    def complete(self, state: RolloutState, writer: StreamWriter) -> RolloutState:
        """Complete and score every branch k times, all in one stream of batches."""
        completions = self._job.settings.completions
        branches = [[Trace.from_json(one) for one in row] for row in state["branches"]]
        scores: list[list[list[float | None]]] = [[[] for _ in row] for row in branches]
        errors: list[str | None] = [None] * len(branches)
        looks = early_stop_looks(completions) if self._job.settings.early_stop else [completions]
        for look, upto in enumerate(looks):
            wanted = [
                (query, candidate, number)
                for query, row in enumerate(scores)
                for candidate, done in enumerate(row)
                if look == 0 or self._can_still_win(row, candidate)
                for number in range(len(done), upto)
            ]
            results = self._score_completions(self._examples(state), branches, wanted, writer)
            for (query, candidate, _), result in zip(wanted, results, strict=True):
                scores[query][candidate].append(result.value)
                errors[query] = errors[query] or result.error
        return {"scores": scores, "errors": errors}

    def store(self, state: RolloutState, writer: StreamWriter) -> RolloutState:
        """Write the chunk's rows as one shard."""
        examples = self._examples(state)
        rows = [
            rollout_row(
                example,
                prefix=Trace.from_json(prefix["trace"]),
                cut=prefix["cut"],
                scores=scores,
                error=error,
                settings=self._job.settings,
                config_hash=self._job.shards.manifest["config_hash"],
            )
            for example, prefix, scores, error in zip(
                examples, state["prefixes"], state["scores"], state["errors"], strict=True
            )
        ]
        chunk = state["chunk"]
        if chunk is not None:
            self._job.shards.write(chunk, rows)
        self._switch.release([_row(example) for example in examples])
        writer({"type": "stored", "rows": rows})
        return {}

    def _examples(self, state: RolloutState) -> Sequence[Example]:
        chunk = state["chunk"]
        return () if chunk is None else self._job.chunk(chunk)

    def _cut_share(self, trace: Trace) -> float:
        low, high = self._job.settings.min_cut, self._job.settings.max_cut
        return low + (high - low) * derive_uniform(trace.seed, trace.trace_id, 0, "cut")

    def _score_completions(
        self,
        examples: Sequence[Example],
        branches: Sequence[Sequence[Trace]],
        wanted: Sequence[tuple[int, int, int]],
        writer: StreamWriter,
    ) -> list[ScoreResult]:
        turns = []
        for query, candidate, number in wanted:
            row = _row(examples[query])
            trace = branches[query][candidate]
            seed = derive_seed(trace.seed, trace.trace_id, number, f"completion {candidate}")
            turns.append(
                Turn(replace(trace, seed=seed), f"{row}/{candidate}/{number}", fork_of=row)
            )
        finished = finish_traces(
            self._switch, turns, on_end=lambda *_: writer({"type": "completed", "completions": 1})
        )
        answers = [
            examples[query].answer(trace.text)
            for (query, _, _), trace in zip(wanted, finished, strict=True)
        ]
        return score_answers(self._job.score, answers)

    def _can_still_win(self, scores: Sequence[Sequence[float | None]], candidate: int) -> bool:
        known = [[value for value in row if value is not None] for row in scores]
        if outside := [value for row in known for value in row if not 0 <= value <= 1]:
            raise ConfigError(
                f"Early stopping needs scores from 0 to 1; {self._job.score.name!r} gave "
                f"{outside[0]:g}.",
                hint="run without --early-stop",
            )
        return can_still_win(known, candidate, completions=self._job.settings.completions)


def cut_prefix(trace: Trace, share: float, *, opens: bool) -> Trace:
    """Return the first segments of a response, as many as fit into a share of its tokens.

    A prefix ends where the switcher would be asked: behind the anchor's first segment, if the
    anchor opens every response.
    """
    kept = list(_within(trace, share * trace.num_tokens)) or trace.segments[: 1 if opens else 0]
    return replace(trace, segments=tuple(kept), finish_reason=None)


def _within(trace: Trace, budget: float) -> Iterator[Segment]:
    used = 0
    for segment in trace.segments:
        used += len(segment.token_ids)
        if used > budget:
            return
        yield segment


def _row(example: Example) -> str:
    return f"rollout/{example.id}"
