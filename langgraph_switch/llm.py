"""`SwitchLLM`: several checkpoints that take turns, as one LangChain LLM.

Knows nothing of how candidates generate or of how they are trained.
"""

from __future__ import annotations

from typing import Any

from langgraph_switch.loading import DescribedSwitch
from langgraph_switch.trace_llm import TraceLLM


class SwitchLLM(DescribedSwitch, TraceLLM):
    """Checkpoints take turns to write the segments of one response (Switch Generation).

    Example:
        ```python
        llm = SwitchLLM.embedded()
        llm.invoke("How many legs do 3 spiders and 2 cats have in total?")
        ```

    Models are loaded on first use, each distinct base once. Safe to share between threads.
    """

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return super()._identifying_params | self._described()

    @property
    def _llm_type(self) -> str:
        return "switch"
