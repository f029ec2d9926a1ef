"""The state of a run: plain JSON types only, so that any checkpointer can keep it.

Segments travel through a delta channel: a checkpoint stores what is new, not the whole trace.
Knows nothing of engines or of the rules of a response.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, NotRequired, TypeAlias, final

from langgraph.channels import Topic
from langgraph.channels.delta import DeltaChannel
from typing_extensions import TypedDict


@final
class Beginning(TypedDict):
    """A run begins with these traces, whatever an earlier one of its thread has left."""

    traces: list[dict[str, Any]]


@final
class Growth(TypedDict):
    """A trace goes on: its new segments."""

    index: int
    segments: list[dict[str, Any]]


@final
class Ending(TypedDict):
    """A trace has ended: the whole of it."""

    index: int
    trace: dict[str, Any]


TraceUpdate: TypeAlias = Beginning | Growth | Ending


def fold_traces(
    traces: list[dict[str, Any]], writes: Sequence[list[TraceUpdate]]
) -> list[dict[str, Any]]:
    """Apply updates in order; associative over batches of writes, as a delta channel needs."""
    folded = list(traces)
    for update in (one for write in writes for one in write):
        if "traces" in update:
            folded = list(update["traces"])
        elif "trace" in update:
            folded[update["index"]] = update["trace"]
        else:
            before = folded[update["index"]]
            grown = [*before["segments"], *update["segments"]]
            folded[update["index"]] = before | {"segments": grown}
    return folded


class SwitchInput(TypedDict):
    """What a run answers."""

    queries: list[Any]
    """Per query a string, or an object with `query` or `messages` and, if wanted, `trace_id`,
    `seed`, `max_tokens`, `stop`, `temperature`, `tools`, `grammar`."""
    run_id: NotRequired[str]
    """Names this run's rows in the engines; drawn if it is left out."""


class SwitchOutput(TypedDict):
    """What a run returns."""

    traces: list[dict[str, Any]]
    """Per query `Trace.to_json()`, in order."""


class SwitchState(TypedDict):
    """What a run knows between two steps."""

    queries: list[Any]
    run_id: str
    """Names this run's rows in the engines."""
    num_live: int
    """Traces that are in progress at the same time."""
    traces: Annotated[list[dict[str, Any]], DeltaChannel(fold_traces)]
    decisions: list[dict[str, Any]]
    """Who writes the next segment of which trace, until it is written."""
    drafts: Annotated[list[dict[str, Any]], Topic(dict, accumulate=False)]
    """Segments that this round's speakers have just written."""
