"""Which candidate should have written here? Answered by trying all and playing to the end.

For a question: a prefix by an exploring policy is cut at a random segment; every candidate
writes the next one; each branch is completed several times; the share of right answers is the
branch's utility (paper, section 3; the completing policy is the caller's choice). This module
does not know how a switcher learns from it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from recipes.tiny_family.questions import Question, is_right
from recipes.tiny_family.switching import NAMES, Family, Policy, State, run


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutPlan:
    """How much is tried."""

    cuts: int = 3
    """Prefixes per question, at most; each holds at least the first segment."""
    completions: int = 6
    """Per branch."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """One state and the utility of each candidate there; None where it could not write."""

    state: State
    utilities: tuple[float | None, ...]

    @property
    def spread(self) -> float:
        """How much the choice matters here."""
        known = [u for u in self.utilities if u is not None]
        return max(known) - min(known)


def collect(
    family: Family,
    questions: Sequence[Question],
    policy: Policy,
    plan: RolloutPlan,
    rng: random.Random,
) -> list[Rollout]:
    """Return one rollout per distinct prefix; `policy` writes prefixes and completions."""
    by_query = {question.query: question for question in questions}
    whole = run(family, [State(q.query) for q in questions], policy)
    states = _cut(whole, plan.cuts, rng)
    branches = [
        (i, speaker)
        for i, state in enumerate(states)
        for speaker in range(len(NAMES))
        if speaker not in state.silent
    ]
    begun = family.extend([states[i] for i, _ in branches], [speaker for _, speaker in branches])
    ends = run(family, [s for s in begun for _ in range(plan.completions)], policy)
    utilities: list[list[float | None]] = [[None] * len(NAMES) for _ in states]
    for b, (i, speaker) in enumerate(branches):
        mine = ends[b * plan.completions : (b + 1) * plan.completions]
        right = [is_right(by_query[s.query], family.text(s)) for s in mine]
        utilities[i][speaker] = sum(right) / len(right)
    return [Rollout(s, tuple(u)) for s, u in zip(states, utilities, strict=True)]


def _cut(whole: Sequence[State], cuts: int, rng: random.Random) -> list[State]:
    """Return distinct beginnings of finished responses."""
    found: dict[State, None] = {}
    for state in whole:
        lengths = range(1, len(state.parts))
        for length in rng.sample(lengths, min(cuts, len(lengths))):
            found[State(state.query, state.parts[:length])] = None
    return list(found)
