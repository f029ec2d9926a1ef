"""What an evaluation compares: candidates alone, random, untuned and trained switching, choices.

Conditions that write share the loaded engines; conditions that choose (vote, oracle) pick one of
the singles' responses, so they cost nothing and see the same draws.
Knows nothing of statistics, files or graphs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from langgraph_switch.config import LMSwitcherSpec, SwitchConfig
from langgraph_switch.offline.responses import Response
from langgraph_switch.solo import solo
from langgraph_switch.switch import Switch
from langgraph_switch.switchers.base import Switcher, Turn
from langgraph_switch.switchers.simple import RandomSwitcher
from langgraph_switch.switchers.wrapper import SwitcherWrapper
from langgraph_switch.trace import Trace

RANDOM = "random switching"
UNTUNED = "untuned switcher"
TRAINED = "trained switcher"
ROUTING = "whole-response routing"
MAJORITY = "majority vote"
ORACLE = "best single (oracle)"

Responses = Mapping[str, Sequence[Response]]
MakeSwitch = Callable[[], Switch]


def alone(name: str) -> str:
    """Return what a candidate's own responses are called."""
    return f"{name} alone"


def without(name: str) -> str:
    """Return what the trained switcher deprived of a candidate is called."""
    return f"trained without {name}"


class WithoutCandidate(SwitcherWrapper):
    """A switcher that may not choose one candidate; as the anchor it still opens and closes."""

    def __init__(self, base: Switcher, index: int) -> None:
        super().__init__(base)
        self._index = index

    def probabilities(self, turns: Sequence[Turn]) -> list[tuple[float, ...]]:
        """Return the base's probabilities, one of them set to 0."""
        found = self._base.probabilities(turns)
        return [tuple(0.0 if i == self._index else p for i, p in enumerate(ps)) for ps in found]


class AskedOnce(SwitcherWrapper):
    """A switcher that is asked once a response; whom it names then keeps the floor."""

    def __init__(self, base: Switcher, names: Sequence[str]) -> None:
        super().__init__(base)
        self._names = names

    def probabilities(self, turns: Sequence[Turn]) -> list[tuple[float, ...]]:
        """Return the base's probabilities the first time, and certainty from then on."""
        chosen = [self._chosen(turn.trace) for turn in turns]
        open_turns = [turn for turn, name in zip(turns, chosen, strict=True) if name is None]
        asked = iter(self._base.probabilities(open_turns) if open_turns else ())
        return [
            next(asked) if name is None else tuple(float(one == name) for one in self._names)
            for name in chosen
        ]

    def _chosen(self, trace: Trace) -> str | None:
        decided = (one.speaker for one in trace.segments if one.decided_by == self.decided_by)
        return next(decided, None)


def writing_conditions(
    config: SwitchConfig, load: MakeSwitch, *, is_trained: bool, leave_one_out: bool
) -> dict[str, MakeSwitch]:
    """Return every condition that writes responses of its own, by name, in the report's order.

    Args:
        config: The switch's.
        load: Gives the loaded switch; called when a condition is made.
        is_trained: Whether its switcher is one, and not drawing at random.
        leave_one_out: Whether it is also tried without each candidate.
    """
    names = config.names
    found: dict[str, MakeSwitch] = {alone(name): _solo_maker(load, name) for name in names}
    found[RANDOM] = lambda: load().with_switcher(RandomSwitcher(names))
    if not is_trained:
        return found
    if isinstance(config.switcher, LMSwitcherSpec):
        found[UNTUNED] = lambda: untuned(load())
    found[TRAINED] = load
    found[ROUTING] = lambda: routed(load())
    for index, name in enumerate(names if leave_one_out else ()):
        found[without(name)] = _without_maker(load, index)
    return found


def untuned(switch: Switch) -> Switch:
    """Return the switch with the anchor's own weights as its switcher, as the paper's ablation."""
    given = switch.config.switcher
    spec = LMSwitcherSpec(candidate=switch.config.anchor_name)
    if isinstance(given, LMSwitcherSpec):
        spec = spec.model_copy(update={"prompt": given.prompt, "sampling": given.sampling})
    engines = {name: candidate.engine for name, candidate in switch.candidates.items()}
    return Switch(switch.config.with_changes(switcher=spec), engines=engines)


def routed(switch: Switch) -> Switch:
    """Return whole-response routing by the same switcher.

    It is asked once, where it is asked first (behind the opening, if the anchor opens): what it
    names writes all the rest, and ends the response by its own end of sequence.
    """
    config = switch.config
    ending = tuple(one.model_copy(update={"eos": "end_response"}) for one in config.candidates)
    anchor = config.anchor.model_copy(update={"last": False})
    engines = {name: candidate.engine for name, candidate in switch.candidates.items()}
    return Switch(
        config.with_changes(candidates=ending, anchor=anchor),
        engines=engines,
        switcher=AskedOnce(switch.switcher, config.names),
    )


def choosing_conditions(
    config: SwitchConfig, responses: Responses
) -> Iterator[tuple[str, list[Response]]]:
    """Yield the conditions that pick one of the singles' responses to each question."""
    names = config.names
    singles = [responses[alone(name)] for name in names]
    per_question = list(zip(*singles, strict=True))
    if any(one.answer is not None for row in per_question for one in row):
        anchor = names.index(config.anchor_name)
        yield MAJORITY, [row[_majority(row, anchor)] for row in per_question]
    yield ORACLE, [max(row, key=_known_score) for row in per_question]


def _majority(row: Sequence[Response], anchor: int) -> int:
    """Return who gave the most frequent answer; the anchor's breaks a tie."""
    order = [anchor, *(i for i in range(len(row)) if i != anchor)]
    votes = Counter(row[i].answer for i in order if row[i].answer is not None)
    if not votes:
        return anchor
    most = max(votes.values())
    return next(i for i in order if votes.get(row[i].answer) == most)


def _known_score(response: Response) -> float:
    return float("-inf") if response.score is None else response.score


def _solo_maker(load: MakeSwitch, name: str) -> MakeSwitch:
    return lambda: solo(load(), name)


def _without_maker(load: MakeSwitch, index: int) -> MakeSwitch:
    def make() -> Switch:
        switch = load()
        return switch.with_switcher(WithoutCandidate(switch.switcher, index))

    return make
