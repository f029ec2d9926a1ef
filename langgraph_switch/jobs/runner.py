"""Jobs through the state machine, in batches; each answer comes out the moment it ends.

One bad question never loses the others. Knows nothing of files.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

from langchain_core.runnables import RunnableConfig

from langgraph_switch.errors import GenerationError, InputError
from langgraph_switch.graph import recursion_limit, row_name
from langgraph_switch.jobs.lines import Job, LineFailure
from langgraph_switch.llm import SwitchLLM
from langgraph_switch.queries import trace_from_query
from langgraph_switch.state import SwitchInput
from langgraph_switch.streaming import Event
from langgraph_switch.trace import Trace
from langgraph_switch.trace_llm import generation_info

_WAVES_PER_RUN = 8
"""Questions per run of the graph, in units of those in progress at the same time: many, so that
the batch stays full; not all, so that a step's cost does not grow with the file."""
_MAX_BROKEN_IN_A_ROW = 5
"""Questions asked alone that may break off one after the other before the run gives up."""


def run_events(llm: SwitchLLM, queries: Sequence[Any]) -> Iterator[Event]:
    """Answer queries in one run and tell everything as it happens; leaves no rows behind."""
    config = llm.config
    run_id = uuid.uuid4().hex
    longest = max(trace_from_query(query, config).max_tokens for query in queries)
    limit = recursion_limit(config, len(queries), longest)
    call = SwitchInput(queries=list(queries), run_id=run_id)
    try:
        for event in llm.graph.stream(
            call, RunnableConfig(recursion_limit=limit), stream_mode="custom"
        ):
            yield cast("Event", event)
    finally:
        llm.switch.release([row_name(run_id, index) for index in range(len(queries))])


def answer_jobs(
    llm: SwitchLLM, jobs: Sequence[Job], on_tokens: Callable[[int], None] | None = None
) -> Iterator[tuple[Job, dict[str, Any] | LineFailure]]:
    """Answer jobs; yields each one's answer, or why it has none, in the order of their ends.

    A run that breaks off is halved and tried again, until the question that breaks it stands
    alone; seeds make the others' answers the same as they would have been.

    Args:
        llm: The switch.
        jobs: The questions.
        on_tokens: Told of every segment's number of tokens.

    Raises:
        GenerationError: Several questions broke off in a row, each asked alone: the fault is
            not theirs.
    """
    size = llm.config.limits.live_traces * _WAVES_PER_RUN
    stack = [list(jobs[start : start + size]) for start in range(0, len(jobs), size)][::-1]
    checked: set[int] = set()
    num_broken = 0
    while stack:
        left: dict[int, Job] = {}
        for job in stack.pop():
            error = None if job.line in checked else _problem(llm, job)
            checked.add(job.line)
            if error is None:
                left[len(left)] = job
            else:
                yield job, LineFailure(job.line, error)
        try:
            for index, trace in _ended_traces(llm, list(left.values()), on_tokens):
                num_broken = 0
                yield left.pop(index), answer_of(trace)
        except Exception as err:
            rest = list(left.values())
            if len(rest) > 1:
                half = len(rest) // 2
                stack += [rest[half:], rest[:half]]
                continue
            if not rest:
                raise
            num_broken += 1
            yield rest[0], LineFailure(rest[0].line, err)
            if num_broken >= _MAX_BROKEN_IN_A_ROW:
                raise GenerationError(
                    f"{num_broken} questions in a row broke off. {err}", traces=()
                ) from err


def _ended_traces(
    llm: SwitchLLM, jobs: Sequence[Job], on_tokens: Callable[[int], None] | None
) -> Iterator[tuple[int, Trace]]:
    """Answer jobs in one run; yields each one's index and trace when it ends."""
    if not jobs:
        return
    for event in run_events(llm, [job.query for job in jobs]):
        if event["type"] == "segment" and on_tokens:
            on_tokens(len(event["data"]["token_ids"]))
        elif event["type"] == "end":
            yield event["trace"], Trace.from_json(event["data"])


def answer_of(trace: Trace) -> dict[str, Any]:
    """Return a response as plain JSON types: text, finish_reason, seed, usage, trace."""
    return {"text": trace.text} | generation_info(trace)


def _problem(llm: SwitchLLM, job: Job) -> InputError | None:
    """Return why a question cannot be answered, before it could stop a whole batch."""
    try:
        llm.switch.check(trace_from_query(job.query, llm.config))
    except InputError as err:
        return err
    return None
