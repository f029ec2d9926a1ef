"""The state of a run: plain JSON types only, so that any checkpointer can keep it.

Segments travel through a delta channel: a checkpoint stores what is new, not the whole trace.
Knows nothing of engines or of the rules of a response.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from langgraph.channels import Topic
from langgraph.channels.delta import DeltaChannel
from typing_extensions import NotRequired, TypedDict


class TraceUpdate(TypedDict):
    """A change of one trace: it begins, it grows, or it is replaced when it ends."""

    index: int
    trace: NotRequired[dict[str, Any]]
    """The whole trace, when it begins or ends."""
    segments: NotRequired[list[dict[str, Any]]]
    """New segments, while it goes on."""


def fold_traces(
    traces: list[dict[str, Any]], writes: Sequence[list[TraceUpdate]]
) -> list[dict[str, Any]]:
    """Apply updates in order; associative over batches of writes, as a delta channel needs."""
    folded = list(traces)
    for update in (one for write in writes for one in write):
        index = update["index"]
        if "trace" in update:
            folded[index : index + 1] = [update["trace"]]
        else:
            grown = [*folded[index]["segments"], *update["segments"]]
            folded[index] = folded[index] | {"segments": grown}
    return folded


class SwitchInput(TypedDict):
    """What a run answers."""

    queries: list[Any]
    """Per query a string, or an object with `query` or `messages` and, if wanted, `trace_id`,
    `seed`, `max_tokens`, `stop`, `temperature`."""
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
    traces: Annotated[list[dict[str, Any]], DeltaChannel(fold_traces)]
    decisions: list[dict[str, Any]]
    """Who writes the next segment of which trace, until it is written."""
    drafts: Annotated[list[dict[str, Any]], Topic(dict, accumulate=False)]
    """Segments that this round's speakers have just written."""
