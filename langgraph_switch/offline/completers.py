"""Who completes a rollout: a choice with a name, because it decides what the labels mean.

`random` is the paper's; `anchored` follows the anchor and strays with probability epsilon;
`switcher` follows a trained switcher and strays alike, for a second and third round.
Knows nothing of rollouts.
"""

from __future__ import annotations

from collections.abc import Sequence

from langgraph_switch.config import Sampling, SwitchConfig
from langgraph_switch.errors import ConfigError
from langgraph_switch.offline.settings import RolloutSettings
from langgraph_switch.switchers.base import Switcher, Turn
from langgraph_switch.switchers.simple import FixedSwitcher, RandomSwitcher
from langgraph_switch.switchers.wrapper import SwitcherWrapper


class EpsilonSwitcher(SwitcherWrapper):
    """Follows another policy's first choice; with probability epsilon anybody may speak."""

    def __init__(self, base: Switcher, num_candidates: int, *, epsilon: float) -> None:
        """Stray from a policy.

        Raises:
            ConfigError: `epsilon` is no probability.
        """
        if not 0 <= epsilon <= 1:
            raise ConfigError(
                f"epsilon is a probability, got {epsilon}.", hint="use a number from 0 to 1"
            )
        super().__init__(base)
        self.decided_by = "random"
        self.sampling = Sampling(temperature=1, top_p=1)
        self._floor = epsilon / num_candidates
        self._rest = 1 - epsilon

    def probabilities(self, turns: Sequence[Turn]) -> list[tuple[float, ...]]:
        """Return epsilon spread over all candidates, and the rest on the policy's first choice."""
        mixed = []
        for inner in self._base.probabilities(turns):
            best = max(range(len(inner)), key=inner.__getitem__)
            mixed.append(
                tuple(self._floor + self._rest * (index == best) for index in range(len(inner)))
            )
        return mixed


def make_completer(settings: RolloutSettings, config: SwitchConfig, switcher: Switcher) -> Switcher:
    """Return the policy that writes prefixes and completions.

    Args:
        settings: Names it.
        config: The candidates, and who anchors.
        switcher: The switch's own, for the completer `switcher`.

    Raises:
        ConfigError: The switcher is to complete, and it only draws at random.
    """
    names = config.names
    if settings.completer == "random":
        return RandomSwitcher(names)
    if settings.completer == "anchored":
        anchored = FixedSwitcher(names, [config.anchor_name])
        return EpsilonSwitcher(anchored, len(names), epsilon=settings.epsilon)
    check_completer(settings, is_random=isinstance(switcher, RandomSwitcher))
    return EpsilonSwitcher(switcher, len(names), epsilon=settings.epsilon)


def check_completer(settings: RolloutSettings, *, is_random: bool) -> None:
    """Refuse the completer `switcher` where the switch's own draws at random.

    Raises:
        ConfigError: It does.
    """
    if settings.completer == "switcher" and is_random:
        raise ConfigError(
            "Rollouts completed by the switcher need a trained one.",
            hint="name it with --switcher, or complete by 'random' or 'anchored'",
        )
