"""Handing a response over from one candidate to the next, token by token where possible.

Knows nothing of prompts, of who decides or of graphs.
"""

from __future__ import annotations

from langgraph_switch.engines.base import Engine
from langgraph_switch.trace import Segment, Trace


def response_ids(trace: Trace, engine: Engine) -> list[int]:
    """Return the response so far in the vocabulary of an engine's model.

    Segments written in the same vocabulary keep their exact tokens; of any other segment only
    its own text is tokenised, so what stood before keeps its tokens too.
    """
    ids: list[int] = []
    for segment in trace.segments:
        ids.extend(segment_ids(segment, engine))
    return ids


def segment_ids(segment: Segment, engine: Engine) -> tuple[int, ...]:
    """Return one segment in the vocabulary of an engine's model."""
    is_native = segment.tokenizer == engine.tokenizer.fingerprint
    # Checkpoints of one family may differ in added tokens that the other model has no row for.
    if is_native and max(segment.token_ids, default=0) < engine.vocab_size:
        return segment.token_ids
    return engine.tokenizer.encode(segment.text)
