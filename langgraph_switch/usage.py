"""How many tokens a response took, and whose.

Knows nothing of models or LangChain.
"""

from __future__ import annotations

from typing import Any

from langgraph_switch.trace import Trace


def usage(trace: Trace) -> dict[str, Any]:
    """Return token counts: the prompt as its first speaker read it, the response, and shares.

    `prefill_tokens` and `cached_tokens` say how much of all prefixes had to be computed.
    """
    first = trace.segments[0] if trace.segments else None
    num_input = first.prefill_tokens + first.cached_tokens if first else 0
    return {
        "input_tokens": num_input,
        "output_tokens": trace.num_tokens,
        "total_tokens": num_input + trace.num_tokens,
        "output_tokens_by_candidate": trace.tokens_by_speaker(),
        "prefill_tokens": sum(segment.prefill_tokens for segment in trace.segments),
        "cached_tokens": sum(segment.cached_tokens for segment in trace.segments),
    }
