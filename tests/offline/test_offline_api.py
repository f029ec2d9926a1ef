from __future__ import annotations

import subprocess
import sys

import pytest

from langgraph_switch import offline


@pytest.mark.parametrize("name", offline.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    found = getattr(offline, name)
    assert found.__doc__
    assert found.__name__ == name
    assert name in dir(offline)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'rollouts'"):
        _ = offline.rollouts


def test_the_import_is_light() -> None:
    program = """
import sys
import langgraph_switch.offline, langgraph_switch.report, langgraph_switch.tasks
print([name for name in ("torch", "trl", "peft", "matplotlib", "datasets") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
