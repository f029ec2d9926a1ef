"""From a configuration to engines and a switcher: loads what is not given, each base once.

Knows nothing of how a response is written.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Literal
from weakref import WeakSet

from langgraph_switch.candidates import Candidate
from langgraph_switch.config import (
    CandidateSpec,
    FixedSwitcherSpec,
    HeadSwitcherSpec,
    LMSwitcherSpec,
    ModelRef,
    RandomSwitcherSpec,
    SwitchConfig,
)
from langgraph_switch.engine_specs import EngineSpec, OpenAIEngineSpec
from langgraph_switch.engines.base import Engine, ScoresNoLabels
from langgraph_switch.engines.replicated import ReplicatedEngine
from langgraph_switch.errors import ConfigError
from langgraph_switch.prompts.candidate import SwitchWarning
from langgraph_switch.switchers.base import Switcher
from langgraph_switch.switchers.lm import LMSwitcher
from langgraph_switch.switchers.simple import FixedSwitcher, RandomSwitcher

if TYPE_CHECKING:
    from langgraph_switch.engines.pool import ModelPool

_ANNOUNCED: WeakSet[ScoresNoLabels] = WeakSet()
"""Engines whose lacks have been told: once is enough for all switches that share them."""
SWITCHER: Literal["switcher"] = "switcher"
"""The key under which given engines may hold the LM switcher's."""


class Assembly:
    """The engines of one switch."""

    def __init__(
        self,
        config: SwitchConfig,
        given: Mapping[str, Engine],
        *,
        trust_remote_code: Collection[str] = (),
    ) -> None:
        """Start from what is given.

        Args:
            config: The whole description.
            given: Engines that need not be loaded.
            trust_remote_code: Candidates (and `switcher`) whose own code may be run.

        Raises:
            ConfigError: An engine, or trust, is given to somebody who is no candidate.
        """
        known = {*config.names, SWITCHER}
        if unknown := sorted(set(given) - known):
            raise ConfigError(
                f"`engines` names {unknown[0]!r}, which is no candidate.",
                hint=f"use the names {', '.join(sorted(known))}",
            )
        self._trusted = _names(trust_remote_code, known)
        self._config = config
        self._given = given
        self._pool: ModelPool | None = None

    def candidate_engine(self, spec: CandidateSpec) -> Engine:
        """Return a candidate's engine.

        Raises:
            ModelLoadError: Its model, adapter or tokenizer cannot be loaded.
        """
        given = self._given.get(spec.name)
        engine = given or self._made(spec, self._patient_engine(spec), name=spec.name)
        text_only = _text_only(engine)
        if text_only is not None and text_only not in _ANNOUNCED:
            _ANNOUNCED.add(text_only)
            warnings.warn(
                f"candidate {spec.name!r} goes without {text_only.lacks}.",
                SwitchWarning,
                stacklevel=3,
            )
        return engine

    def switcher(self) -> Switcher:
        """Return the policy that the configuration describes.

        Raises:
            ModelLoadError: Its model, adapter, head or tokenizer cannot be loaded.
            ConfigError: Its tokenizer cannot tell the candidates' labels apart, or its head was
                made for others.
        """
        names = self._config.names
        match self._config.switcher:
            case RandomSwitcherSpec(weights=weights):
                return RandomSwitcher(names, weights)
            case FixedSwitcherSpec(order=order):
                return FixedSwitcher(names, order)
            case LMSwitcherSpec() as spec:
                engine = self._switcher_engine(spec)
                if _text_only(engine) is not None:
                    raise ConfigError(
                        f"{engine.name!r} gives no label probabilities: it cannot be the "
                        "switcher's model.",
                        hint="give the switcher a checkpoint of its own",
                    )
                return LMSwitcher(
                    engine,
                    names,
                    prompt=spec.prompt,
                    sampling=spec.sampling,
                    segment_tokens=self._config.segment.max_tokens,
                )
            case HeadSwitcherSpec() as spec:
                return self._head_switcher(spec)

    def _head_switcher(self, spec: HeadSwitcherSpec) -> Switcher:
        from langgraph_switch.switchers.head import HeadSwitcher  # noqa: PLC0415 - imports torch
        from langgraph_switch.switchers.head_model import SwitcherHead  # noqa: PLC0415 - torch

        config = self._config
        reader = config.candidate(spec.candidate or config.anchor_name)
        return HeadSwitcher(
            Candidate(reader, self.candidate_engine(reader), config),
            SwitcherHead.load(config.resolve_model(spec.head), revision=spec.revision),
            config.names,
            sampling=spec.sampling,
        )

    def _patient_engine(self, spec: CandidateSpec) -> EngineSpec | None:
        """Return where a candidate is served; its server may be silent as long as it has time."""
        if spec.engine is None:
            return None
        longest_s = min(spec.engine.timeout_s, self._config.timeout_of(spec))
        return spec.engine.model_copy(update={"timeout_s": longest_s})

    def _switcher_engine(self, spec: LMSwitcherSpec) -> Engine:
        if SWITCHER in self._given:
            return self._given[SWITCHER]
        if spec.engine is None and spec.candidate is not None:
            if spec.adapter is None and (engine := self._given.get(spec.candidate)):
                return engine
            served = self._config.candidate(spec.candidate).engine
            if served is not None:
                self._refuse_adapter(spec)
                return self._made(self._config.switcher_model(spec), served, name=SWITCHER)
        return self._made(self._config.switcher_model(spec), spec.engine, name=SWITCHER)

    def _refuse_adapter(self, spec: LMSwitcherSpec) -> None:
        if spec.adapter is not None:
            raise ConfigError(
                f"The switcher is an adapter on candidate {spec.candidate!r}, whose weights are on "
                "a server.",
                hint="serve the adapter there (vLLM: --enable-lora --lora-modules NAME=PATH) and "
                'name it: "engine": {"kind": "openai", "base_url": ..., "model": "NAME"}',
            )

    def _made(self, ref: ModelRef, engine: EngineSpec | None, *, name: str) -> Engine:
        """Return an engine of the kind that is asked for."""
        match engine:
            case None:
                return self._load(ref, name=name)
            case OpenAIEngineSpec():
                from langgraph_switch.engines.openai_engine import (  # noqa: PLC0415 - an extra
                    make_openai_engine,
                )

                source = self._config.resolve_model(ref.model)
                made = [
                    make_openai_engine(server, source, revision=ref.revision, name=name)
                    for server in engine.servers
                ]
                cooldown_s = self._config.failover.cooldown_s
                return ReplicatedEngine(made, cooldown_s=cooldown_s) if made[1:] else made[0]

    def _load(self, ref: ModelRef, *, name: str) -> Engine:
        from langgraph_switch.engines.pool import ModelPool  # noqa: PLC0415 - imports torch

        if self._pool is None:
            self._pool = ModelPool(kv_cache_bytes=self._config.limits.kv_cache_bytes)
        resolve = self._config.resolve_model
        changes = {"model": resolve(ref.model), "adapter": ref.adapter and resolve(ref.adapter)}
        return self._pool.engine(
            ref.model_copy(update=changes), name=name, trust_remote_code=self._is_trusted(name)
        )

    def _is_trusted(self, name: str) -> bool:
        """Return whether code may be run; a switcher on a candidate's weights runs that one's."""
        spec = self._config.switcher
        is_shared = name == SWITCHER and isinstance(spec, LMSwitcherSpec) and spec.candidate
        return (is_shared or name) in self._trusted


def _names(trusted: Collection[str], known: set[str]) -> frozenset[str]:
    if isinstance(trusted, str | bool):
        raise ConfigError(
            "`trust_remote_code` takes the names of those whose code you have read.",
            hint=f"write it like trust_remote_code=[{min(known)!r}]",
        )
    if unknown := sorted(set(trusted) - known):
        raise ConfigError(
            f"`trust_remote_code` names {unknown[0]!r}, which is no candidate.",
            hint=f"use the names {', '.join(sorted(known))}",
        )
    return frozenset(trusted)


def _text_only(engine: Engine) -> ScoresNoLabels | None:
    one = engine.replicas[0] if isinstance(engine, ReplicatedEngine) else engine
    return one if isinstance(one, ScoresNoLabels) else None
