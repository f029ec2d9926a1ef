"""The head switcher: a small head on what a candidate makes of the response so far.

No model of its own: what a decision computes is the catch-up that the candidate needs when it
gets the floor next. Knows nothing of how segments are generated, of training or of graphs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from langgraph_switch.candidates import Candidate
from langgraph_switch.config import Sampling
from langgraph_switch.engines.base import HiddenRequest, HiddenStateEngine
from langgraph_switch.errors import ConfigError
from langgraph_switch.switchers.base import Turn
from langgraph_switch.switchers.head_model import SwitcherHead, check_head
from langgraph_switch.trace import DecidedBy, Trace


class BoundaryReader:
    """Reads a candidate's hidden state where its next segment would begin."""

    def __init__(self, candidate: Candidate) -> None:
        """Read what a candidate makes of traces.

        Raises:
            ConfigError: Its engine shows no hidden states.
        """
        if not isinstance(candidate.engine, HiddenStateEngine):
            raise ConfigError(
                f"A head needs the hidden states of {candidate.name!r}, and its engine "
                f"({type(candidate.engine).__name__}) shows none.",
                hint="hold that candidate in this process, or use a switcher of kind 'lm'",
            )
        self._candidate = candidate
        self._engine: HiddenStateEngine = candidate.engine

    @property
    def hidden_size(self) -> int:
        """Width of a hidden state."""
        return self._engine.hidden_size

    def request(self, turn: Turn) -> HiddenRequest:
        """Return what the engine is asked of a trace."""
        return self._candidate.hidden_request(turn)

    def read(self, turns: Sequence[Turn]) -> list[Tensor]:
        """Return one hidden state per turn, in one forward pass; equal prefixes are read once."""
        requests = [self.request(turn) for turn in turns]
        asked: dict[tuple[int, ...], HiddenRequest] = {}
        for request in requests:
            asked.setdefault(tuple(request.prefix), request)
        found = dict(zip(asked, self._engine.last_hidden(list(asked.values())), strict=True))
        return [found[tuple(request.prefix)] for request in requests]

    def states(self, prefixes: Sequence[Sequence[int]]) -> list[Tensor]:
        """Return the hidden states of prefixes in the candidate's tokens; remembers nothing."""
        rows = [f"states/{index}" for index in range(len(prefixes))]
        requests = [
            HiddenRequest(row=row, prefix=prefix)
            for row, prefix in zip(rows, prefixes, strict=True)
        ]
        try:
            return self._engine.last_hidden(requests)
        finally:
            self._engine.release(rows)

    def release(self, rows: Sequence[str]) -> None:
        """Forget what is remembered of rows."""
        self._candidate.release(rows)


class HeadSwitcher:
    """Lets a head decide from what a candidate makes of the response so far."""

    decided_by: DecidedBy = "switcher"

    def __init__(
        self,
        candidate: Candidate,
        head: SwitcherHead,
        names: Sequence[str],
        *,
        sampling: Sampling,
    ) -> None:
        """Put a head on a candidate.

        Args:
            candidate: Whose hidden state is read.
            head: What was trained on it.
            names: The candidates that are decided among, in order.
            sampling: How a speaker is drawn.

        Raises:
            ConfigError: The head was made for other candidates, another order or another width,
                or the candidate's engine shows no hidden states.
        """
        self._reader = BoundaryReader(candidate)
        self._candidate = candidate
        self._head = head
        self.sampling = sampling
        check_head(
            head.config,
            names=names,
            reads=candidate.name,
            hidden_size=self._reader.hidden_size,
        )

    def probabilities(self, turns: Sequence[Turn]) -> list[tuple[float, ...]]:
        """Return the softmax over the head's logits."""
        states = self._reader.read(turns)
        with torch.inference_mode():
            logits = self._head(self._head.inputs(states, [turn.trace for turn in turns]))
            rows: list[list[float]] = torch.softmax(logits.double(), dim=1).tolist()
        return [tuple(row) for row in rows]

    def check(self, trace: Trace) -> None:
        """Refuse a response that would outgrow the candidate's context.

        Raises:
            ContextLengthError: It would.
        """
        self._candidate.check(trace)

    def release(self, rows: Sequence[str]) -> None:
        """Forget what the candidate remembers of rows."""
        self._reader.release(rows)
