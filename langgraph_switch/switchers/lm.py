"""The LM switcher: a causal LM reads the trace; its label logits are the probabilities.

One forward pass a decision, over what is new since the last one (paper, section 3; the
published code instead samples free text and searches it for a digit).
Knows nothing of how segments are generated or of graphs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from langgraph_switch.config import Sampling
from langgraph_switch.engines.base import Engine, LabelRequest
from langgraph_switch.errors import ContextLengthError
from langgraph_switch.prompts.switcher import SwitcherPrompt, segment_block
from langgraph_switch.switchers.base import Turn
from langgraph_switch.trace import DecidedBy, Trace


class LMSwitcher:
    """Asks a causal LM for the next speaker's number."""

    decided_by: DecidedBy = "switcher"

    def __init__(
        self,
        engine: Engine,
        names: Sequence[str],
        *,
        prompt: Literal["plain", "chat"] = "plain",
        sampling: Sampling,
        segment_tokens: int,
    ) -> None:
        """Let an engine decide among candidates.

        Args:
            engine: The switcher's model.
            names: The candidates in the order of their labels 0, 1, 2 ...
            prompt: Plain text, as the published switchers were trained, or a user's chat turn.
            sampling: How a speaker is drawn.
            segment_tokens: Expected length of a segment, to foresee the prompt's length.
        """
        self.engine = engine
        self._prompt = SwitcherPrompt(engine.tokenizer, names, kind=prompt)
        self._segment_tokens = segment_tokens
        self.sampling = sampling

    def probabilities(self, turns: Sequence[Turn]) -> list[tuple[float, ...]]:
        """Return the softmax over the labels' log-probabilities, one forward pass in all.

        Equal prompts are read once.
        """
        prompts = [tuple(self._prompt.encode(turn.trace)) for turn in turns]
        rows: dict[tuple[int, ...], str] = {}
        for prompt, turn in zip(prompts, turns, strict=True):
            rows.setdefault(prompt, turn.row)
        requests = [
            LabelRequest(row=_row(row), prefix=prompt, labels=self._prompt.labels.labels)
            for prompt, row in rows.items()
        ]
        scores = self.engine.label_logprobs(requests)
        found = {prompt: _softmax(one) for prompt, one in zip(rows, scores, strict=True)}
        return [found[prompt] for prompt in prompts]

    def check(self, trace: Trace) -> None:
        """Refuse a response that, with its tags, would outgrow the switcher's context.

        Raises:
            ContextLengthError: It would.
        """
        num_segments = math.ceil(trace.max_tokens / self._segment_tokens)
        tags = num_segments * len(self.engine.tokenizer.encode(segment_block(0, "")))
        num_tokens = len(self._prompt.encode(trace)) + trace.max_tokens + tags
        if num_tokens > self.engine.max_context_tokens:
            raise ContextLengthError(
                f"switcher {self.engine.name}",
                num_tokens=num_tokens,
                max_tokens=self.engine.max_context_tokens,
                hint="lower max_tokens, lengthen segment.max_tokens (fewer tags), or shorten "
                "the query",
            )

    def release(self, rows: Sequence[str]) -> None:
        """Forget what the switcher's model remembers of rows."""
        self.engine.release([_row(row) for row in rows])


def _row(row: str) -> str:
    return f"{row}#switcher"


def _softmax(logprobs: Sequence[float]) -> tuple[float, ...]:
    highest = max(logprobs)
    weights = [math.exp(score - highest) for score in logprobs]
    return tuple(weight / sum(weights) for weight in weights)
