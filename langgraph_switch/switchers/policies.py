"""What may be asked of a switcher without training it again: priors, budgets, steadiness.

Each is a small wrapper around another switcher. Knows nothing of how that one decides.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from langgraph_switch.config import SwitchConfig
from langgraph_switch.switchers.base import Switcher, Turn
from langgraph_switch.switchers.wrapper import SwitcherWrapper
from langgraph_switch.trace import Trace


def with_policy(switcher: Switcher, config: SwitchConfig) -> Switcher:
    """Return the switcher under the configuration's policy; the switcher itself if it has none."""
    policy = config.policy
    if policy.priors:
        switcher = WithPriors(switcher, config.names, policy.priors)
    if policy.keep_floor_above is not None:
        switcher = SteadySwitcher(switcher, config.names, keep_above=policy.keep_floor_above)
    if policy.budgets:
        switcher = WithBudgets(
            switcher, config.names, policy.budgets, segment_tokens=config.segment.max_tokens
        )
    return switcher


class WithPriors(SwitcherWrapper):
    """Adds a number to candidates' logits: what price, latency or risk say for or against them."""

    def __init__(self, base: Switcher, names: Sequence[str], priors: Mapping[str, float]) -> None:
        super().__init__(base)
        self._factors = [math.exp(priors.get(name, 0.0)) for name in names]

    def probabilities(self, turns: Sequence[Turn]) -> list[tuple[float, ...]]:
        """Return the base's probabilities times e to the prior, normalised."""
        return [
            _normalised([p * factor for p, factor in zip(row, self._factors, strict=True)])
            for row in self._base.probabilities(turns)
        ]


class WithBudgets(SwitcherWrapper):
    """Bars a candidate whose next segment would take more than its share of the tokens so far."""

    def __init__(
        self,
        base: Switcher,
        names: Sequence[str],
        shares: Mapping[str, float],
        *,
        segment_tokens: int,
    ) -> None:
        super().__init__(base)
        self._names = names
        self._shares = shares
        self._segment_tokens = segment_tokens

    def probabilities(self, turns: Sequence[Turn]) -> list[tuple[float, ...]]:
        """Return the base's probabilities, 0 for whoever is over budget."""
        found = []
        for turn, row in zip(turns, self._base.probabilities(turns), strict=True):
            barred = self._over_budget(turn.trace)
            pairs = zip(self._names, row, strict=True)
            found.append(_normalised([0.0 if name in barred else p for name, p in pairs]))
        return found

    def _over_budget(self, trace: Trace) -> set[str]:
        written = trace.tokens_by_speaker()
        more = min(self._segment_tokens, trace.num_tokens_left)
        total = trace.num_tokens + more
        return {
            name
            for name, share in self._shares.items()
            if written.get(name, 0) + more > share * total
        }


class SteadySwitcher(SwitcherWrapper):
    """Lets the last speaker keep the floor while its probability is above a threshold."""

    def __init__(self, base: Switcher, names: Sequence[str], *, keep_above: float) -> None:
        super().__init__(base)
        self._names = names
        self._keep_above = keep_above

    def probabilities(self, turns: Sequence[Turn]) -> list[tuple[float, ...]]:
        """Return certainty for a speaker who stays, and the base's probabilities otherwise."""
        return [
            self._kept(turn.trace, row)
            for turn, row in zip(turns, self._base.probabilities(turns), strict=True)
        ]

    def _kept(self, trace: Trace, row: tuple[float, ...]) -> tuple[float, ...]:
        if not trace.segments:
            return row
        last = self._names.index(trace.segments[-1].speaker)
        if row[last] <= self._keep_above:
            return row
        return tuple(float(index == last) for index in range(len(row)))


def _normalised(weights: Sequence[float]) -> tuple[float, ...]:
    """Return weights that sum to 1; all of them 0 where nobody is left (then anybody may speak)."""
    total = math.fsum(weights)
    return tuple(weight / total if total else 0.0 for weight in weights)
