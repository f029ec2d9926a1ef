"""The switch: candidates and a switcher put together; one method per step of a response.

Decide who writes, write a segment, append it. Keeps no state of a response. Knows nothing of
LangGraph or LangChain.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from operator import itemgetter
from typing import Self

from langgraph_switch.assembly import SWITCHER, Assembly
from langgraph_switch.candidates import Candidate
from langgraph_switch.config import SwitchConfig
from langgraph_switch.engines.base import (
    Continuation,
    Engine,
    GenerateRequest,
    HoldsRows,
    OnToken,
)
from langgraph_switch.engines.sharing import (
    MeetingEngine,
    Part,
    Rendezvous,
    generate_all,
    groups,
)
from langgraph_switch.errors import ConfigError, EngineError, InputError
from langgraph_switch.failover import Failover, Health
from langgraph_switch.floor import (
    Decision,
    cut_at_stop,
    draw_speaker,
    is_stuck,
    needs_cue,
    recent_failures,
    response_end,
    ruled_decision,
    silent_candidates,
    stand_in,
)
from langgraph_switch.seeds import derive_uniform
from langgraph_switch.switchers.base import Switcher, Turn
from langgraph_switch.switchers.lm import LMSwitcher
from langgraph_switch.switchers.policies import with_policy
from langgraph_switch.trace import Segment, Trace

# Byte-level tokens may end inside a character several times in a row.
_CHARACTER_TOKENS = 8


@dataclass(frozen=True, slots=True)
class Draft:
    """A segment that has been written and not appended yet."""

    segment: Segment
    pending_text: str = ""
    """What an incomplete character at its end would be decoded to."""


@dataclass(frozen=True, slots=True)
class Writing:
    """What one candidate is to write."""

    speaker: str
    turns: Sequence[Turn]
    decisions: Sequence[Decision]


class Switch:
    """Everything that a response needs besides its own trace. Thread-safe."""

    def __init__(
        self,
        config: SwitchConfig,
        *,
        engines: Mapping[str, Engine] | None = None,
        switcher: Switcher | None = None,
        trust_remote_code: Collection[str] = (),
        health: Health | None = None,
    ) -> None:
        """Put a switch together, loading what is not given.

        Args:
            config: The whole description.
            engines: Engines by candidate name (and `switcher`), instead of loading models.
            switcher: A policy of your own, instead of the one that `config` describes.
            trust_remote_code: Candidates (and `switcher`) whose own code may be run.
            health: Who has failed lately, where another switch has the same engines.

        Raises:
            ModelLoadError: A model, adapter or tokenizer cannot be loaded.
            ConfigError: The loaded parts do not fit together.
        """
        self.config = config
        assembly = Assembly(config, engines or {}, trust_remote_code=trust_remote_code)
        self.candidates = {
            spec.name: Candidate(spec, assembly.candidate_engine(spec), config)
            for spec in config.candidates
        }
        self._bare_switcher = switcher or assembly.switcher()
        self.switcher = with_policy(self._bare_switcher, config)
        self.health = health or Health()
        self._failover = Failover(config.failover, self.health) if config.failover.enabled else None
        self._check_tokenizers()
        fingerprints = {c.engine.tokenizer.fingerprint for c in self.candidates.values()}
        self._has_many_tokenizers = len(fingerprints) > 1

    def with_config(self, config: SwitchConfig) -> Self:
        """Return the same candidates under other rules; engines and their memory are shared.

        The switcher stays, unless the other configuration describes another one.
        """
        is_same = config.switcher == self.config.switcher
        engines = {name: candidate.engine for name, candidate in self.candidates.items()}
        return type(self)(
            config,
            engines=engines,
            switcher=self._bare_switcher if is_same else None,
            health=self.health,
        )

    def with_switcher(self, switcher: Switcher) -> Self:
        """Return the same candidates under another policy; engines and their memory are shared."""
        other = copy.copy(self)
        other.switcher = switcher
        return other

    def without_hand_over(self) -> Self:
        """Return the same switch for measurements: tries again, and then raises.

        What somebody else has written in a candidate's place says nothing about the candidate.
        """
        other = copy.copy(self)
        if self._failover is not None:
            retries = Failover(self.config.failover, self.health, hands_over=False)
            other._failover = retries  # noqa: SLF001
        return other

    def check(self, trace: Trace) -> None:
        """Refuse a trace that cannot be answered, before anything is computed.

        Raises:
            InputError: The query is empty.
            ContextLengthError: A candidate or the switcher cannot hold the whole response.
        """
        if not trace.messages or not trace.query.strip():
            raise InputError("The query is empty.", hint="ask something")
        self._check_tools(trace)
        for candidate in self.candidates.values():
            candidate.check(trace)
        self.switcher.check(trace)

    def num_live(self, traces: Sequence[Trace]) -> int:
        """Return how many of these traces should be in progress at the same time.

        As many as `limits.live_traces` allows and every engine can remember to their ends: more
        would evict each other's rows and be computed again and again. Where not even one is
        remembered there is nothing to lose.
        """
        limit = self.config.limits.live_traces
        readers = [candidate.engine for candidate in self.candidates.values()]
        if isinstance(self._bare_switcher, LMSwitcher):
            readers.append(self._bare_switcher.engine)
        for candidate in self.candidates.values() if traces else ():
            engine = candidate.engine
            if isinstance(engine, HoldsRows):
                longest = max(candidate.num_tokens(trace) for trace in traces)
                rows_per_trace = sum(reader is engine for reader in readers)
                limit = min(limit, engine.rows_that_fit(longest) // rows_per_trace or limit)
        return limit

    def decide(self, turns: Sequence[Turn]) -> list[Decision]:
        """Return who writes the next segment of each trace; the switcher is asked once.

        Raises:
            EngineError: A trace is stuck (`floor.is_stuck`): everybody has just failed. Decided
                again, it is tried once more.
        """
        for turn in turns:
            if is_stuck(turn.trace, self.config) and self.health.forget_broken([turn.row]):
                raise self._all_failed()
        ruled = [ruled_decision(turn.trace, self.config) for turn in turns]
        asked = [turn for turn, d in zip(turns, ruled, strict=True) if d is None]
        drawn = iter(self._ask(asked) if asked else ())
        decisions = [next(drawn) if d is None else d for d in ruled]
        away = self.health.cooling(self.config.names) if self._failover else frozenset()
        if not away:
            return decisions
        return [
            self._if_there(turn.trace, decision, away)
            for turn, decision in zip(turns, decisions, strict=True)
        ]

    def with_cues(self, speaker: str, turns: Sequence[Turn]) -> list[Turn]:
        """Return the turns with the answer cue written down, where one is due."""
        candidate = self.candidates[speaker]
        cues = [self._cue(turn.trace, candidate) for turn in turns]
        return [
            replace(turn, trace=turn.trace.append(cue)) if cue else turn
            for turn, cue in zip(turns, cues, strict=True)
        ]

    def write(
        self,
        speaker: str,
        turns: Sequence[Turn],
        decisions: Sequence[Decision],
        on_token: OnToken | None = None,
        *,
        rendezvous: Rendezvous | None = None,
    ) -> list[Draft]:
        """Let one candidate write the next segment of several traces, in one batch.

        Args:
            speaker: The candidate.
            turns: The traces.
            decisions: Why it is this candidate's turn, by trace.
            on_token: Called with the index of a trace and its new token.
            rendezvous: Where other threads that write for the same step are waited for, because
                their candidates are adapters of the same base.
        """
        candidate = self.candidates[speaker]
        started = time.perf_counter()
        requests = self._requests(speaker, turns)
        written = self._generate(candidate, requests, on_token, rendezvous)
        return self._drafts(speaker, turns, decisions, written, time.perf_counter() - started)

    def write_all(self, writings: Sequence[Writing]) -> list[list[Draft]]:
        """Let several candidates write: adapters of one base in one batch, devices side by side."""
        places = groups([self.candidates[one.speaker].engine for one in writings])
        jobs = [partial(self._write_group, [writings[index] for index in one]) for one in places]
        if len(jobs) == 1:
            return jobs[0]()
        with ThreadPoolExecutor(len(jobs)) as threads:  # Models of one device take turns.
            written = [done.result() for done in [threads.submit(job) for job in jobs]]
        pairs = [zip(one, drafts, strict=True) for one, drafts in zip(places, written, strict=True)]
        return [drafts for _, drafts in sorted(chain.from_iterable(pairs), key=itemgetter(0))]

    def writing_together(self, speakers: Sequence[str]) -> list[list[str]]:
        """Return which of the speakers can share a batch; one may be alone."""
        found = groups([self.candidates[name].engine for name in speakers])
        return [[speakers[index] for index in group] for group in found]

    def append(self, trace: Trace, draft: Draft) -> Trace:
        """Return the trace with one more segment, ended if a rule says so."""
        trace = trace.append(draft.segment)
        reason = response_end(trace, self.config)
        if reason is None:
            return trace
        if reason == "stop":
            trace = cut_at_stop(trace)
        elif draft.pending_text:  # Nobody will complete this character any more.
            trace = trace.replace_last(text=draft.segment.text + draft.pending_text)
        return trace.finish(reason)

    def release(self, rows: Sequence[str]) -> None:
        """Forget what engines remember of traces."""
        for candidate in self.candidates.values():
            candidate.release(rows)
        self.switcher.release(rows)
        self.health.forget_broken(rows)

    def _write_group(self, writings: Sequence[Writing]) -> list[list[Draft]]:
        """Let candidates write that can share a batch; where it fails, each by itself."""
        if len(writings) > 1:
            parts = [
                Part(self.candidates[one.speaker].engine, self._requests(one.speaker, one.turns))
                for one in writings
            ]
            started = time.perf_counter()
            try:
                written = generate_all(parts)
            except EngineError:
                if self._failover is None:
                    raise
            else:
                generate_s = time.perf_counter() - started
                return [
                    self._drafts(one.speaker, one.turns, one.decisions, found, generate_s)
                    for one, found in zip(writings, written, strict=True)
                ]
        return [self.write(one.speaker, one.turns, one.decisions) for one in writings]

    def _generate(
        self,
        candidate: Candidate,
        requests: Sequence[GenerateRequest],
        on_token: OnToken | None,
        rendezvous: Rendezvous | None,
    ) -> list[Continuation]:
        engine = MeetingEngine(candidate.engine, rendezvous)
        if self._failover is None:
            return engine.generate(requests, on_token)
        timeout_s = self.config.timeout_of(self.config.candidate(candidate.name))
        return self._failover.generate(
            candidate.name, engine, requests, on_token, timeout_s=timeout_s
        )

    def _all_failed(self) -> EngineError:
        errors = self.health.errors(self.config.names)
        said = [f"{name}: {error.message}" for name, error in errors.items()]
        whole = EngineError(
            " ".join(["Every candidate has failed.", *said]),
            hint=next((error.hint for error in errors.values() if error.hint), ""),
            retryable=any(error.retryable for error in errors.values()),
        )
        whole.__cause__ = next(iter(errors.values()), None)
        return whole

    def _requests(self, speaker: str, turns: Sequence[Turn]) -> list[GenerateRequest]:
        return [
            self.candidates[speaker].request(
                turn,
                max_new_tokens=min(self.config.segment.max_tokens, turn.trace.num_tokens_left),
                extra_tokens=self._extra_tokens(turn.trace),
            )
            for turn in turns
        ]

    def _drafts(
        self,
        speaker: str,
        turns: Sequence[Turn],
        decisions: Sequence[Decision],
        written: Sequence[Continuation],
        generate_s: float,
    ) -> list[Draft]:
        candidate = self.candidates[speaker]
        for turn, one in zip(turns, written, strict=True):
            if one.finish_reason == "failed":
                self.health.mark_broken(turn.row)
        return [
            Draft(_segment(candidate, one, decision, generate_s), one.pending_text)
            for one, decision in zip(written, decisions, strict=True)
        ]

    def _check_tokenizers(self) -> None:
        """Refuse a candidate that reads other tokens than the one it was published as."""
        for spec in self.config.candidates:
            found = self.candidates[spec.name].engine.tokenizer.fingerprint
            if spec.tokenizer not in {None, found}:
                raise ConfigError(
                    f"Candidate {spec.name!r} has another tokenizer than the one that its switch "
                    f"was published with ({found}, expected {spec.tokenizer}).",
                    hint="use the published checkpoint, or remove `tokenizer` to swap on purpose",
                )

    def _check_tools(self, trace: Trace) -> None:
        if trace.tools and not any(c.reads_tools for c in self.candidates.values()):
            callers = "the anchor" if self.config.tools.callers == "anchor" else "any candidate"
            raise InputError(
                f"The chat template of {callers} has no place for tools.",
                hint="set prompt.tools to 'text' for that candidate, or use a checkpoint whose "
                "template knows tools",
            )

    def _ask(self, turns: Sequence[Turn]) -> list[Decision]:
        """Return the switcher's decisions; a rule's, where it fails."""
        started = time.perf_counter()
        if self._failover is None:
            found: list[tuple[float, ...]] | None = self.switcher.probabilities(turns)
        else:
            found = self._failover.ask(SWITCHER, lambda: self.switcher.probabilities(turns))
        decide_s = time.perf_counter() - started
        if found is None:
            return [self._without_switcher(turn.trace) for turn in turns]
        return [self._draw(turn.trace, p, decide_s) for turn, p in zip(turns, found, strict=True)]

    def _draw(self, trace: Trace, probabilities: tuple[float, ...], decide_s: float) -> Decision:
        speaker = draw_speaker(
            self.config.names,
            probabilities,
            self.switcher.sampling,
            uniform=derive_uniform(trace.seed, trace.trace_id, len(trace.segments), "speaker"),
            excluded=silent_candidates(trace) | recent_failures(trace).keys(),
        )
        return Decision(
            speaker=speaker,
            decided_by=self.switcher.decided_by,
            probabilities=probabilities,
            decide_s=decide_s,
        )

    def _without_switcher(self, trace: Trace) -> Decision:
        """Return whose turn it is while the switcher's model fails."""
        decision = stand_in(trace, self.config)
        keeps = self.config.failover.without_switcher == "last_speaker" and trace.segments
        last = trace.segments[-1].speaker if keeps else decision.speaker
        is_barred = last in silent_candidates(trace) | recent_failures(trace).keys()
        return decision if is_barred else replace(decision, speaker=last)

    def _if_there(self, trace: Trace, decision: Decision, away: Collection[str]) -> Decision:
        """Return the decision, or a stand-in for a speaker who is on cooldown."""
        if decision.speaker not in away:
            return decision
        found = stand_in(trace, self.config, probabilities=decision.probabilities, away=away)
        if found.speaker in away:  # Nobody is there: a try costs nothing.
            return decision
        return replace(found, decide_s=decision.decide_s)

    def _cue(self, trace: Trace, candidate: Candidate) -> Segment | None:
        """Return the answer cue as a segment, where it is due and leaves room for an answer."""
        text = self.config.answer_cue
        if text is None or not needs_cue(trace, self.config):
            return None
        ids = candidate.engine.tokenizer.encode(text)
        if len(ids) >= trace.num_tokens_left:
            return None
        return Segment(
            speaker=candidate.name,
            text=text,
            token_ids=ids,
            tokenizer=candidate.engine.tokenizer.fingerprint,
            decided_by="cue",
            finish_reason="length",
        )

    def _extra_tokens(self, trace: Trace) -> int | None:
        """Return how far a segment may run over to end on a complete character.

        Another vocabulary could not continue half of one. The last segment has no successor.
        """
        room = trace.num_tokens_left - self.config.segment.max_tokens
        return min(room, _CHARACTER_TOKENS) if self._has_many_tokenizers and room > 0 else None


def _segment(
    candidate: Candidate, written: Continuation, decision: Decision, generate_s: float
) -> Segment:
    return Segment(
        speaker=candidate.name,
        text=written.text,
        token_ids=written.token_ids,
        tokenizer=candidate.engine.tokenizer.fingerprint,
        decided_by=decision.decided_by,
        finish_reason=written.finish_reason,
        probabilities=decision.probabilities,
        decide_s=decision.decide_s,
        generate_s=generate_s,
        prefill_tokens=written.prefill_tokens,
        cached_tokens=written.cached_tokens,
    )
