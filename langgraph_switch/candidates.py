"""A candidate at work: its checkpoint, what it reads, and how it may end.

Knows nothing of who decides or of graphs.
"""

from __future__ import annotations

from collections.abc import Sequence

from langgraph_switch.config import CandidateSpec, Sampling, SwitchConfig
from langgraph_switch.engines.base import Engine, GenerateRequest, HiddenRequest
from langgraph_switch.errors import ContextLengthError
from langgraph_switch.prompts.candidate import CandidatePrompt
from langgraph_switch.prompts.handover import response_ids
from langgraph_switch.seeds import derive_seed
from langgraph_switch.switchers.base import Turn
from langgraph_switch.trace import Trace


class Candidate:
    """One checkpoint that can take the floor in any trace."""

    def __init__(self, spec: CandidateSpec, engine: Engine, config: SwitchConfig) -> None:
        self.name = spec.name
        self.engine = engine
        is_caller = config.tools.callers == "all" or spec.name == config.anchor_name
        self.prompt = CandidatePrompt(spec, engine.tokenizer, may_call_tools=is_caller)
        self._sampling = config.sampling_of(spec)
        self._masks_eos = config.eos_policy(spec) == "mask"
        self._end_at = config.segment.end_at

    def request(
        self, turn: Turn, *, max_new_tokens: int, extra_tokens: int | None = None
    ) -> GenerateRequest:
        """Return what the engine needs to write this candidate's next segment."""
        trace = turn.trace
        prompt = self.prompt.encode(trace)
        eos = self.engine.eos_token_ids
        return GenerateRequest(
            row=self.row(turn.row),
            prefix=[*prompt, *response_ids(trace, self.engine)],
            response_start=len(prompt),
            max_new_tokens=max_new_tokens,
            sampling=self._sampling_in(trace),
            seed=derive_seed(trace.seed, trace.trace_id, len(trace.segments), "tokens"),
            eos_token_ids=() if self._masks_eos else eos,
            masked_token_ids=eos if self._masks_eos else (),
            stop=trace.stop,
            end_at=self._end_at,
            grammar=trace.grammar,
            extra_tokens=extra_tokens,
            fork_of=self.row(turn.fork_of) if turn.fork_of else None,
        )

    def hidden_request(self, turn: Turn) -> HiddenRequest:
        """Return what the engine needs to show what this candidate makes of a trace."""
        return HiddenRequest(
            row=self.row(turn.row),
            prefix=[*self.prompt.encode(turn.trace), *response_ids(turn.trace, self.engine)],
            fork_of=self.row(turn.fork_of) if turn.fork_of else None,
        )

    @property
    def reads_tools(self) -> bool:
        """Whether this candidate is told which tools there are."""
        return self.prompt.carries_tools

    def is_greedy_in(self, trace: Trace) -> bool:
        """Return whether this candidate always continues such a trace alike."""
        return self._sampling_in(trace).is_greedy

    def row(self, row: str) -> str:
        """Return the name of the row for a trace; candidates that read alike share it."""
        return f"{row}#{self.prompt.signature}"

    def check(self, trace: Trace) -> None:
        """Refuse a response that would outgrow this candidate's context.

        Raises:
            ContextLengthError: Prompt and response need more tokens than the context holds.
        """
        num_tokens = self.num_tokens(trace)
        limit = self.engine.max_context_tokens
        if num_tokens > limit:
            room = limit - num_tokens + trace.max_tokens
            raise ContextLengthError(
                self.name,
                num_tokens=num_tokens,
                max_tokens=limit,
                hint=f"set max_tokens to at most {room}, or shorten the query"
                if room > 0
                else f"shorten the query by {1 - room} tokens or more: it leaves no room",
            )

    def num_tokens(self, trace: Trace) -> int:
        """Return how many tokens prompt and response have at most."""
        return len(self.prompt.encode(trace)) + trace.max_tokens

    def release(self, rows: Sequence[str]) -> None:
        """Forget what the engine remembers of traces."""
        self.engine.release([self.row(row) for row in rows])

    def _sampling_in(self, trace: Trace) -> Sampling:
        if trace.temperature is None:
            return self._sampling
        return self._sampling.model_copy(update={"temperature": trace.temperature})
