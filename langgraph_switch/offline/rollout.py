"""The rollout graph: prefix -> branch -> complete -> store, chunk by chunk of queries.

For every query a response is written by a switching policy and cut at a random place; there every
candidate writes one segment, and each of these branches is completed k times and scored. The
candidate with the best mean is the label (paper, section 3.2). A chunk's rows are stored as one
shard, so a crash loses at most the chunk in flight and never doubles a row.
Knows nothing of training or of the command line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Checkpointer, StreamWriter

from langgraph_switch._version import __version__
from langgraph_switch.floor import Decision
from langgraph_switch.loop import finish_traces
from langgraph_switch.offline.labels import can_still_win, utilities
from langgraph_switch.offline.responses import fresh_trace
from langgraph_switch.offline.settings import RolloutSettings
from langgraph_switch.offline.shards import ShardFolder
from langgraph_switch.scoring import Score, score_answers
from langgraph_switch.seeds import derive_seed, derive_uniform
from langgraph_switch.switch import Switch
from langgraph_switch.switchers.base import Turn
from langgraph_switch.tasks import Example
from langgraph_switch.trace import Trace

# With early stopping, completions come in this many rounds, with a look at the scores between.
_EARLY_STOP_ROUNDS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutJob:
    """What a rollout graph works on."""

    switch: Switch
    """Candidates and rules, with the policy that writes prefixes and completions."""
    examples: Sequence[Example]
    score: Score
    settings: RolloutSettings
    shards: ShardFolder

    @property
    def num_chunks(self) -> int:
        """Shards of the whole job."""
        return -(-len(self.examples) // self.settings.chunk_queries)

    def chunk(self, index: int) -> Sequence[Example]:
        """Return the examples of one shard."""
        size = self.settings.chunk_queries
        return self.examples[index * size : (index + 1) * size]


class RolloutState(TypedDict, total=False):
    """Where a run is; traces as plain JSON types."""

    chunk: int
    prefixes: list[dict[str, Any]]
    """Per query of the chunk its prefix trace and `cut`."""
    branches: list[list[dict[str, Any]]]
    """Per query and candidate the prefix with that candidate's segment."""
    scores: list[list[list[float | None]]]
    """Per query and candidate the scores of its completions; None where scoring failed."""


def build_rollout_graph(
    job: RolloutJob, *, checkpointer: Checkpointer = None
) -> CompiledStateGraph[RolloutState, None, RolloutState, RolloutState]:
    """Compile the graph of a job.

    Stored shards are skipped, so calling it again goes on where an earlier run ended; with a
    checkpointer the chunk in flight is resumed at the step that was not finished.
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


class _Nodes:
    """The steps of a job."""

    def __init__(self, job: RolloutJob) -> None:
        self._job = job
        self._switch = job.switch
        self._names = job.switch.config.names

    def next_chunk(self, state: RolloutState, writer: StreamWriter) -> RolloutState:
        """Move on to the first chunk without a shard."""
        chunk = state.get("chunk", -1) + 1
        while chunk < self._job.num_chunks and self._job.shards.has(chunk):
            writer({"type": "skipped", "queries": len(self._job.chunk(chunk))})
            chunk += 1
        return {"chunk": chunk, "prefixes": [], "branches": [], "scores": []}

    def route_on(self, state: RolloutState) -> str:
        """Stop behind the last chunk."""
        return "prefix" if state["chunk"] < self._job.num_chunks else END

    def prefix(self, state: RolloutState) -> RolloutState:
        """Write a whole response per query and cut it at a random place."""
        examples = self._job.chunk(state["chunk"])
        seed = self._job.settings.seed
        fresh = [fresh_trace(self._switch, example, seed=seed) for example in examples]
        turns = [Turn(trace, _row(example)) for example, trace in zip(examples, fresh, strict=True)]
        whole = finish_traces(self._switch, turns)
        cuts = [self._cut_share(trace) for trace in whole]
        return {
            "prefixes": [
                {"cut": cut, "trace": cut_prefix(trace, cut, self._switch).to_json()}
                for trace, cut in zip(whole, cuts, strict=True)
            ]
        }

    def branch(self, state: RolloutState) -> RolloutState:
        """Let every candidate write one segment behind every prefix."""
        examples = self._job.chunk(state["chunk"])
        prefixes = [Trace.from_json(prefix["trace"]) for prefix in state["prefixes"]]
        branches: list[list[dict[str, Any]]] = [[] for _ in prefixes]
        for speaker in self._names:
            # One name, a row per engine: completions fork the prefix from it on every engine.
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
        settings = self._job.settings
        branches = [[Trace.from_json(one) for one in row] for row in state["branches"]]
        scores: list[list[list[float | None]]] = [[[] for _ in row] for row in branches]
        rounds = _EARLY_STOP_ROUNDS if settings.early_stop else 1
        for round_index in range(rounds):
            upto = settings.completions * (round_index + 1) // rounds
            wanted = [
                (query, candidate, number)
                for query, row in enumerate(scores)
                for candidate, done in enumerate(row)
                if round_index == 0 or self._can_still_win(row, candidate)
                for number in range(len(done), upto)
            ]
            values = self._score_completions(state["chunk"], branches, wanted, writer)
            for (query, candidate, _), value in zip(wanted, values, strict=True):
                scores[query][candidate].append(value)
        return {"scores": scores}

    def store(self, state: RolloutState, writer: StreamWriter) -> RolloutState:
        """Write the chunk's rows as one shard."""
        examples = self._job.chunk(state["chunk"])
        rows = [
            self._stored_row(example, prefix, scores)
            for example, prefix, scores in zip(
                examples, state["prefixes"], state["scores"], strict=True
            )
        ]
        self._job.shards.write(state["chunk"], rows)
        self._release(examples)
        writer({"type": "stored", "queries": len(rows)})
        return {}

    def _cut_share(self, trace: Trace) -> float:
        low, high = self._job.settings.min_cut, self._job.settings.max_cut
        return low + (high - low) * derive_uniform(trace.seed, trace.trace_id, 0, "cut")

    def _score_completions(
        self,
        chunk: int,
        branches: Sequence[Sequence[Trace]],
        wanted: Sequence[tuple[int, int, int]],
        writer: StreamWriter,
    ) -> list[float | None]:
        examples = self._job.chunk(chunk)
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
        return [result.value for result in score_answers(self._job.score, answers)]

    def _can_still_win(self, scores: Sequence[Sequence[float | None]], candidate: int) -> bool:
        known = [[value for value in row if value is not None] for row in scores]
        return can_still_win(known, candidate, completions=self._job.settings.completions)

    def _stored_row(
        self,
        example: Example,
        prefix: dict[str, Any],
        scores: Sequence[Sequence[float | None]],
    ) -> dict[str, Any]:
        trace = Trace.from_json(prefix["trace"])
        known = [[value for value in row if value is not None] for row in scores]
        is_scored = all(known)
        summary = utilities(
            known if is_scored else [[0.0]] * len(known),
            temperature=self._job.settings.soft_label_temperature,
        )
        return {
            "query_id": example.id,
            "query": example.query,
            "cut": prefix["cut"],
            "num_prefix_segments": len(trace.segments),
            "num_prefix_tokens": trace.num_tokens,
            "prefix": json.dumps(trace.to_json(), ensure_ascii=False),
            "scores": known,
            "means": list(summary.means),
            "standard_errors": list(summary.standard_errors),
            "label": summary.label if is_scored else -1,
            "margin": summary.margin,
            "is_tie": summary.is_tie,
            "soft_labels": list(summary.soft_labels),
            "num_completions": sum(len(row) for row in scores),
            "num_failed_scores": sum(value is None for row in scores for value in row),
            "completer": self._job.settings.completer,
            "seed": trace.seed,
            "package_version": __version__,
        }

    def _release(self, examples: Sequence[Example]) -> None:
        self._switch.release([_row(example) for example in examples])


def cut_prefix(trace: Trace, share: float, switch: Switch) -> Trace:
    """Return the first segments of a response, as many as fit into a share of its tokens.

    A prefix ends where the switcher would be asked: behind the anchor's first segment, if the
    anchor opens every response.
    """
    budget = share * trace.num_tokens
    opens = switch.config.anchor.first
    kept = list(_within(trace, budget)) or list(trace.segments[: 1 if opens else 0])
    return replace(trace, segments=tuple(kept), finish_reason=None)


def _within(trace: Trace, budget: float) -> Iterator[Any]:
    used = 0
    for segment in trace.segments:
        used += len(segment.token_ids)
        if used > budget:
            return
        yield segment


def _row(example: Example) -> str:
    return f"rollout/{example.id}"
