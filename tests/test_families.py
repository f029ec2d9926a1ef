"""Families by name: the embedded one and the presets, which name checkpoints of the Hub."""

from __future__ import annotations

import re

import pytest

from langgraph_switch.config import LMSwitcherSpec
from langgraph_switch.errors import ConfigError
from langgraph_switch.families import family_config, family_names

PRESETS = [name for name in family_names() if name != "tiny"]


def test_these_families_have_names() -> None:
    assert family_names() == [
        "tiny",
        "olmo2-1b",
        "qwen2.5-7b",
        "smollm2-1.7b",
        "smollm2-135m",
        "tulu3-8b",
    ]


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_names_repos_in_training_order(name: str) -> None:
    config = family_config(name)
    for spec in config.candidates:
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", spec.model)
    assert config.candidates[0].role == "pretrained"
    assert config.candidates[0].eos == "mask"
    assert config.anchor_name == config.names[-1] == "aligned"
    assert isinstance(config.switcher, LMSwitcherSpec)
    assert config.switcher.candidate == "aligned"


def test_the_papers_family_has_its_published_switcher_and_three_bases() -> None:
    config = family_config("tulu3-8b")
    assert [one.model for one in config.candidates] == [
        "meta-llama/Llama-3.1-8B",
        "allenai/Llama-3.1-Tulu-3-8B-SFT",
        "allenai/Llama-3.1-Tulu-3-8B",
    ]
    assert isinstance(config.switcher, LMSwitcherSpec)
    assert config.switcher.adapter == "bunsenfeng/PFA_switcher_1"
    assert config.switcher.prompt == "plain"
    assert (config.segment.max_tokens, config.max_tokens) == (50, 512)


def test_an_unknown_family_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="no family 'gpt'") as caught:
        family_config("gpt")
    assert "olmo2-1b" in caught.value.hint
