from __future__ import annotations

import pytest
from langchain_core.language_models import BaseLLM
from llm_conformance import LLMConformance
from tiny_models import make_engine, random_model, switch_config

from langgraph_switch import CheckpointLLM, ScriptedEngine, SwitchLLM

SAMPLED = {"temperature": 1.0, "top_p": 0.95}


class TestSwitchLLM(LLMConformance):
    @pytest.fixture
    def llm(self) -> BaseLLM:
        engines = {name: make_engine(random_model(seed=seed)) for seed, name in enumerate("abc")}
        config = switch_config(
            switcher={"kind": "lm", "candidate": "a"}, sampling=SAMPLED, max_tokens=30
        )
        return SwitchLLM(config=config, engines=engines)


class TestSwitchLLMWithAScript(LLMConformance):
    @pytest.fixture
    def llm(self) -> BaseLLM:
        engines = {n: ScriptedEngine(lambda prefix: prefix[::-1]) for n in "ab"}
        return SwitchLLM(config=switch_config("ab", max_tokens=30), engines=engines)


class TestCheckpointLLM(LLMConformance):
    @pytest.fixture
    def llm(self) -> BaseLLM:
        return CheckpointLLM(
            model="tiny",
            engine=make_engine(random_model()),
            prompt={"kind": "plain"},
            sampling=SAMPLED,
            max_tokens=30,
            seed=1,
        )
