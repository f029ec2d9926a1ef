from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from tiny_models import byte_tokenizer, random_model, switch_config

import langgraph_switch


def python(program: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_public_names_are_these() -> None:
    assert langgraph_switch.__all__ == [
        "ChatSwitch",
        "CheckpointLLM",
        "Message",
        "ScriptedEngine",
        "Segment",
        "Switch",
        "SwitchConfig",
        "SwitchError",
        "SwitchLLM",
        "Trace",
        "__version__",
        "build_graph",
        "provenance",
    ]


@pytest.mark.parametrize("name", langgraph_switch.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    found = getattr(langgraph_switch, name)
    assert name in dir(langgraph_switch)
    assert found.__doc__
    if name != "__version__":
        assert found.__name__ == name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'SwitchLM'"):
        _ = langgraph_switch.SwitchLM


def test_the_import_is_light() -> None:
    program = """
import sys
import langgraph_switch

def loaded(*names):
    print([name for name in names if name in sys.modules])

loaded("torch", "transformers", "langgraph", "langchain_core", "pydantic")
langgraph_switch.Trace, langgraph_switch.SwitchError
loaded("torch", "transformers", "langgraph", "langchain_core")
langgraph_switch.SwitchConfig, langgraph_switch.SwitchLLM, langgraph_switch.ScriptedEngine
loaded("torch", "transformers")
"""
    assert python(program).split("\n")[:3] == ["[]"] * 3


def test_an_import_leaves_environment_and_logging_as_they_were() -> None:
    program = """
import logging, os
before = (dict(os.environ), logging.getLogger().handlers[:], logging.getLogger().level)
from langgraph_switch import *
print(before == (dict(os.environ), logging.getLogger().handlers[:], logging.getLogger().level))
"""
    assert python(program).strip() == "True"


_BARE = """
import sys
from importlib.machinery import PathFinder

OPTIONAL = {"accelerate", "datasets", "hypothesis", "peft", "pyarrow", "pytest", "trl"}

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name in OPTIONAL or name == "langgraph.checkpoint.sqlite":
            return None
        return super().find_spec(name, path, target)

sys.meta_path = [Without if finder is PathFinder else finder for finder in sys.meta_path]
from langgraph_switch import SwitchLLM
print(SwitchLLM.from_config(sys.argv[1]).invoke("hello"))
print(OPTIONAL & set(sys.modules))
"""


def save_copies(folder: Path, num_copies: int) -> dict[str, Any]:
    """Save one model several times, and return the configuration's candidates."""
    plain = {"kind": "plain", "plain_template": "{query}"}
    model = random_model()
    for name in "abc"[:num_copies]:
        model.save_pretrained(folder / name)
        byte_tokenizer().save_pretrained(folder / name)
    return {
        "candidates": [
            {"name": name, "model": f"./{name}", "prompt": plain} for name in "abc"[:num_copies]
        ]
    }


def test_a_bare_install_loads_models_and_answers(tmp_path: Path) -> None:
    config = switch_config(**save_copies(tmp_path, 2), max_tokens=12)
    config.save(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = langgraph_switch.SwitchLLM.from_config(tmp_path).invoke("hello")
    assert python(_BARE, str(tmp_path)) == f"{expected}\nset()\n"
