"""One candidate of a switch on its own, on the same engine: to compare with, or to choose by call.

Knows nothing of LangChain or of evaluations.
"""

from __future__ import annotations

from langgraph_switch.config import SegmentSpec, SoloConfig
from langgraph_switch.engines.base import Engine
from langgraph_switch.switch import Switch

_WHOLE_RESPONSE = SegmentSpec(max_tokens=100_000)


def solo(switch: Switch, name: str, *, engine: Engine | None = None) -> Switch:
    """Return one candidate on its own: whole responses, ended by its own end of sequence.

    Args:
        switch: The switch that it is a candidate of.
        name: Which one.
        engine: Other weights to use in its place.
    """
    spec = switch.config.candidate(name)
    config = SoloConfig(
        candidates=(spec.model_copy(update={"eos": "end_response"}),),
        segment=_WHOLE_RESPONSE,
        max_tokens=switch.config.max_tokens,
        sampling=switch.config.sampling,
        tools=switch.config.tools,
        seed=switch.config.seed,
        stop=switch.config.stop,
        limits=switch.config.limits,
        failover=switch.config.failover,
    )
    engines = {name: engine or switch.candidates[name].engine}
    return Switch(config, engines=engines, health=None if engine else switch.health)
