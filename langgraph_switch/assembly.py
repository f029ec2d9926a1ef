"""From a configuration to engines and a switcher: loads what is not given, each base once.

Knows nothing of how a response is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

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
from langgraph_switch.engines.base import Engine
from langgraph_switch.errors import ConfigError
from langgraph_switch.switchers.base import Switcher
from langgraph_switch.switchers.lm import LMSwitcher
from langgraph_switch.switchers.simple import FixedSwitcher, RandomSwitcher

if TYPE_CHECKING:
    from langgraph_switch.engines.pool import ModelPool

SWITCHER: Literal["switcher"] = "switcher"
"""The key under which given engines may hold the LM switcher's."""


class Assembly:
    """The engines of one switch."""

    def __init__(self, config: SwitchConfig, given: Mapping[str, Engine]) -> None:
        """Start from what is given.

        Raises:
            ConfigError: An engine is given for somebody who is no candidate.
        """
        known = {*config.names, SWITCHER}
        if unknown := sorted(set(given) - known):
            raise ConfigError(
                f"`engines` names {unknown[0]!r}, which is no candidate.",
                hint=f"use the names {', '.join(sorted(known))}",
            )
        self._config = config
        self._given = given
        self._pool: ModelPool | None = None

    def candidate_engine(self, spec: CandidateSpec) -> Engine:
        """Return a candidate's engine.

        Raises:
            ModelLoadError: Its model, adapter or tokenizer cannot be loaded.
        """
        given = self._given.get(spec.name)
        return given or self._made(spec, spec.engine, name=spec.name)

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
                return LMSwitcher(
                    self._switcher_engine(spec),
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

    def _switcher_engine(self, spec: LMSwitcherSpec) -> Engine:
        if SWITCHER in self._given:
            return self._given[SWITCHER]
        if spec.engine is None and spec.candidate is not None:
            if spec.adapter is None and (engine := self._given.get(spec.candidate)):
                return engine
            served = self._config.candidate(spec.candidate).engine
            if served is not None:
                self._refuse_adapter(spec)
                return self._made(self._switcher_ref(spec), served, name=SWITCHER)
        return self._made(self._switcher_ref(spec), spec.engine, name=SWITCHER)

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
                return make_openai_engine(engine, source, revision=ref.revision, name=name)

    def _switcher_ref(self, spec: LMSwitcherSpec) -> ModelRef:
        """Return the switcher's model; on a candidate's base only the adapter is its own."""
        if spec.candidate is None:
            fields = spec.model_dump(include=set(ModelRef.model_fields))
            return ModelRef.model_validate(fields)
        base = self._config.candidate(spec.candidate)
        own = spec if spec.adapter else base
        return ModelRef(
            model=base.model,
            revision=base.revision,
            adapter=own.adapter,
            adapter_revision=own.adapter_revision,
            device=base.device,
            dtype=base.dtype,
        )

    def _load(self, ref: ModelRef, *, name: str) -> Engine:
        from langgraph_switch.engines.pool import ModelPool  # noqa: PLC0415 - imports torch

        if self._pool is None:
            self._pool = ModelPool(kv_cache_bytes=self._config.limits.kv_cache_bytes)
        resolve = self._config.resolve_model
        changes = {"model": resolve(ref.model), "adapter": ref.adapter and resolve(ref.adapter)}
        return self._pool.engine(ref.model_copy(update=changes), name=name)
