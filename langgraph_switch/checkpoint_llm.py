"""`CheckpointLLM`: one checkpoint as a LangChain LLM, on the same engine and rules as a switch.

Knows nothing of switching: it is a switch with nobody to switch to.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field, SkipValidation

from langgraph_switch.config import (
    CandidateSpec,
    DType,
    PromptSpec,
    Sampling,
    SegmentSpec,
    SoloConfig,
    SwitchConfig,
)
from langgraph_switch.engines.base import Engine
from langgraph_switch.loading import computed_once
from langgraph_switch.switch import Switch
from langgraph_switch.trace_llm import TraceLLM

_NAME = "checkpoint"
_WHOLE_RESPONSE = SegmentSpec(max_tokens=100_000)


class CheckpointLLM(TraceLLM):
    """One causal LM, local or from the Hub, with prefix reuse, seeds and exact stop rules.

    Example:
        ```python
        llm = CheckpointLLM(model="HuggingFaceTB/SmolLM2-135M-Instruct", max_tokens=64)
        llm.invoke("Why is the sky blue?")
        ```
    """

    model: str
    """Path or repo of the weights."""
    revision: str | None = None
    adapter: str | None = None
    device: str = "auto"
    dtype: DType = "auto"
    prompt: PromptSpec = PromptSpec()
    sampling: Sampling = Sampling()
    max_tokens: int = Field(default=512, ge=1)
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    engine: SkipValidation[Engine | None] = Field(default=None, exclude=True, repr=False)
    """An engine to use instead of loading the model."""

    _made_from: ClassVar[frozenset[str]] = frozenset(__annotations__)

    def _make_switch(self) -> Switch:
        return Switch(self._config, engines={_NAME: self.engine} if self.engine else None)

    @computed_once
    def _config(self) -> SwitchConfig:
        candidate = CandidateSpec(
            name=_NAME,
            model=self.model,
            revision=self.revision,
            adapter=self.adapter,
            device=self.device,
            dtype=self.dtype,
            prompt=self.prompt,
        )
        fields: dict[str, Any] = {
            "candidates": (candidate,),
            "segment": _WHOLE_RESPONSE,
            "sampling": self.sampling,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
        }
        return SoloConfig.from_dict(fields)

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return super()._identifying_params | {"engine": repr(self.engine)}

    @property
    def _llm_type(self) -> str:
        return "switch-checkpoint"
