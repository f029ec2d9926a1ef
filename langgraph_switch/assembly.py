"""From a configuration to engines and a switcher: loads what is not given, each base once.

Knows nothing of how a response is written.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
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
        return self._given.get(spec.name) or self._load(spec, name=spec.name)

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
        if spec.adapter is None and (engine := self._given.get(spec.candidate or "")):
            return engine
        return self._load(self._config.switcher_model(spec), name=SWITCHER)

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
