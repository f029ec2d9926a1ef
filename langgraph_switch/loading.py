"""A LangChain model whose checkpoints are loaded on first use, once, whoever asks.

The base of `SwitchLLM`, `CheckpointLLM` and `ChatSwitch`. Knows nothing of prompts or messages.
"""

from __future__ import annotations

import tempfile
import threading
from abc import abstractmethod
from collections.abc import Collection, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SkipValidation

from langgraph_switch.config import SwitchConfig
from langgraph_switch.engines.base import Engine
from langgraph_switch.families import embedded_config
from langgraph_switch.graph import SwitchGraph, build_graph
from langgraph_switch.hub.pull import pull_switch
from langgraph_switch.hub.save import save_switch
from langgraph_switch.runs import SwitchRuns
from langgraph_switch.switch import Switch
from langgraph_switch.switchers.base import Switcher

if TYPE_CHECKING:
    from langgraph_switch.hub.push import Pushed

_T = TypeVar("_T")
_LOADING = threading.RLock()


class computed_once(cached_property[_T]):  # noqa: N801 - a decorator
    """A `cached_property` that is computed by one thread only, as before Python 3.12."""

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """Return the value, computing it on first use."""
        with _LOADING:
            return super().__get__(instance, owner)


class LoadsSwitch(BaseModel):
    """Holds a switch, and forgets it when a field that it was made from changes."""

    model_config = ConfigDict(arbitrary_types_allowed=True, ignored_types=(computed_once,))

    _made_from: ClassVar[frozenset[str]] = frozenset()
    """Names of the fields that decide what is loaded."""

    @property
    @abstractmethod
    def _config(self) -> SwitchConfig: ...

    @abstractmethod
    def _make_switch(self) -> Switch: ...

    @computed_once
    def switch(self) -> Switch:
        """The switch at work; its models are loaded here.

        Raises:
            ModelLoadError: A model, adapter or tokenizer cannot be loaded.
        """
        return self._make_switch()

    @computed_once
    def graph(self) -> SwitchGraph:
        """The compiled state machine: `graph.invoke({"queries": [...]})`, subgraph, Studio.

        Models are loaded by its first run.
        """
        return build_graph(lambda: self.switch, names=self._config.names)

    @computed_once
    def _runs(self) -> SwitchRuns:
        return SwitchRuns(self.switch)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy; one with other fields loads its own models."""
        copied = super().model_copy(update=update, deep=deep)
        copied._forget_loaded(update or ())  # noqa: SLF001
        return copied

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a field; what was loaded for its old value is forgotten."""
        super().__setattr__(name, value)
        self._forget_loaded([name])

    def __getstate__(self) -> dict[Any, Any]:
        """Return what a pickle holds: the description, without loaded models."""
        state = super().__getstate__()
        kept = {k: v for k, v in state["__dict__"].items() if k not in _COMPUTED}
        return {**state, "__dict__": kept}

    def _forget_loaded(self, changed: Iterable[str]) -> None:
        if self._made_from & set(changed):
            for name in _COMPUTED:
                self.__dict__.pop(name, None)


_COMPUTED = ("switch", "graph", "_runs", "_runs_alone", "_config")


class DescribedSwitch(LoadsSwitch):
    """A switch that a `SwitchConfig` describes."""

    config: SwitchConfig
    """Candidates, switcher and every rule of a response."""
    engines: SkipValidation[Mapping[str, Engine] | None] = Field(
        default=None, exclude=True, repr=False
    )
    """Engines by candidate name (and `switcher`) to use instead of loading models."""
    switcher: SkipValidation[Switcher | None] = Field(default=None, exclude=True, repr=False)
    """A policy of your own, instead of the one that `config` describes."""

    trust_remote_code: SkipValidation[Collection[str]] = Field(default=(), exclude=True, repr=False)
    """Names of candidates (and `switcher`) whose repo's own code may be run. Nothing that a
    `switch.json` says can allow it."""

    _made_from: ClassVar[frozenset[str]] = frozenset(
        {"config", "engines", "switcher", "trust_remote_code"}
    )

    @classmethod
    def from_config(cls, path: str | Path, **kwargs: Any) -> Self:
        """Return the switch that a `switch.json`, or a folder that holds one, describes.

        Raises:
            ConfigError: The file is missing or describes no valid switch.
        """
        return cls(config=SwitchConfig.load(path), **kwargs)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        revision: str | None = None,
        candidates: Mapping[str, str] | None = None,
        token: str | None = None,
        **kwargs: Any,
    ) -> Self:
        """Return the switch that a repo of the Hub, or a local folder, holds.

        The candidates' weights are downloaded on first use. A LoRA adapter without a
        `switch.json`, as the paper's authors published theirs, gets the paper's candidates.

        Args:
            source: `user/name`, or a folder.
            revision: Branch, tag or commit.
            candidates: Other models for some candidates, by name.
            token: Overrides what `hf auth login` has stored.
            kwargs: Fields of this class, e.g. `trust_remote_code=["aligned"]`.

        Raises:
            ConfigError: It holds no switch, or one that cannot be used here.
            ModelLoadError: The repo cannot be had; says why and what to do.
        """
        config = pull_switch(source, revision=revision, candidates=candidates, token=token)
        return cls(config=config, **kwargs)

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write `switch.json` and the switcher's weights into a folder; candidates are named.

        Raises:
            ConfigError: The folder holds something else.
        """
        return save_switch(self.config, folder)

    def push_to_hub(self, repo_id: str, **options: Any) -> Pushed:
        """Push this switch to the Hub.

        Args:
            repo_id: `user/name`; made if it is not there.
            options: `private`, `with_models`, `license`, `evaluation`, `message`, `token`: see
                `hub.push`.

        Raises:
            ConfigError: Candidates are folders of this machine, or the licence is not known.
            ModelLoadError: The Hub refuses; says why and what to do.
        """
        from langgraph_switch.hub.push import push  # noqa: PLC0415 - imports torch

        with tempfile.TemporaryDirectory(prefix="switch-") as folder:
            return push(save_switch(self.config, folder), repo_id, **options)

    @classmethod
    def embedded(cls, **changes: Any) -> Self:
        """Return the family of small checkpoints that the package carries; needs no network.

        Args:
            changes: Top-level fields of its configuration to replace, e.g. `seed=1`.
        """
        return cls(config=embedded_config().with_changes(**changes))

    @property
    def _config(self) -> SwitchConfig:
        return self.config

    def _make_switch(self) -> Switch:
        return Switch(
            self.config,
            engines=self.engines,
            switcher=self.switcher,
            trust_remote_code=self.trust_remote_code,
        )

    def _described(self) -> dict[str, Any]:
        """Return what tells this switch from others, for caches and traces."""
        # Whatever is not in the configuration is told apart by its `repr`.
        engines = {name: repr(engine) for name, engine in (self.engines or {}).items()}
        return {
            "config": self.config.to_dict(),
            "engines": engines,
            "switcher": repr(self.switcher),
        }
