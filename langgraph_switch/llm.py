"""`SwitchLLM`: several checkpoints that take turns, as one LangChain LLM.

Knows nothing of how candidates generate or of how they are trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

from pydantic import Field, SkipValidation

from langgraph_switch.config import SwitchConfig
from langgraph_switch.engines.base import Engine
from langgraph_switch.switch import Switch
from langgraph_switch.switchers.base import Switcher
from langgraph_switch.trace_llm import TraceLLM, computed_once


class SwitchLLM(TraceLLM):
    """Checkpoints take turns to write the segments of one response (Switch Generation).

    Example:
        ```python
        llm = SwitchLLM.embedded()
        llm.invoke("How many legs do 3 spiders and 2 cats have in total?")
        ```

    Models are loaded on first use, each distinct base once. Safe to share between threads.
    """

    config: SwitchConfig
    """Candidates, switcher and every rule of a response."""
    engines: SkipValidation[Mapping[str, Engine] | None] = Field(
        default=None, exclude=True, repr=False
    )
    """Engines by candidate name (and `switcher`) to use instead of loading models."""
    switcher: SkipValidation[Switcher | None] = Field(default=None, exclude=True, repr=False)
    """A policy of your own, instead of the one that `config` describes."""

    @classmethod
    def from_config(cls, path: str | Path, **kwargs: Any) -> Self:
        """Return the switch that a `switch.json`, or a folder that holds one, describes.

        Raises:
            ConfigError: The file is missing or describes no valid switch.
        """
        return cls(config=SwitchConfig.load(path), **kwargs)

    @classmethod
    def embedded(cls, **changes: Any) -> Self:
        """Return the family of small checkpoints that the package carries; needs no network.

        Args:
            changes: Top-level fields of its configuration to replace, e.g. `seed=1`.
        """
        return cls(config=embedded_config().with_changes(**changes))

    @computed_once
    def switch(self) -> Switch:
        """The switch at work; its models are loaded here.

        Raises:
            ModelLoadError: A model, adapter or tokenizer cannot be loaded.
        """
        return Switch(self.config, engines=self.engines, switcher=self.switcher)

    @property
    def _config(self) -> SwitchConfig:
        return self.config

    @property
    def _identifying_params(self) -> dict[str, Any]:
        # Whatever is not in the configuration is told apart by its `repr`.
        engines = {name: repr(engine) for name, engine in (self.engines or {}).items()}
        given = {"engines": engines, "switcher": repr(self.switcher)}
        return super()._identifying_params | given

    @property
    def _llm_type(self) -> str:
        return "switch"


def embedded_config() -> SwitchConfig:
    """Return the configuration of the embedded family."""
    return SwitchConfig.load(str(files("langgraph_switch") / "tiny"))
