from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from langgraph_switch.cli import app

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_the_readmes_examples_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(BLOCKS) >= 2
    names: dict[str, object] = {}
    for block in BLOCKS:
        exec(compile(block, "README.md", "exec"), names)  # noqa: S102
    assert "32" in capsys.readouterr().out.splitlines()[0]


def test_the_chat_documents_examples_run(capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "docs" / "chat.md").read_text(encoding="utf-8")
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        exec(compile(block, "chat.md", "exec"), names)  # noqa: S102
    shown = capsys.readouterr().out
    assert "The answer is 32." in shown
    assert "CountLegs" in shown
    assert "has_wings" in shown


@pytest.mark.filterwarnings("ignore::langgraph_switch.prompts.candidate.SwitchWarning")
def test_the_failover_documents_examples_run(capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "docs" / "failover.md").read_text(encoding="utf-8")
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        exec(compile(block, "failover.md", "exec"), names)  # noqa: S102
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split() == ["fast", "fixed", "failed"]
    assert shown[1].startswith("steady failover eos Eight legs.")
    assert shown[-1].startswith("Eight legs, two eyes.")


def test_the_readmes_configuration_is_valid() -> None:
    (block,) = re.findall(r"```python no-run\n(.*?)```", README, flags=re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(block, "README.md", "exec"), names)  # noqa: S102
    assert names["llm"].config.anchor_name == "aligned"  # type: ignore[attr-defined]


@pytest.mark.parametrize("page", ["README.md", "docs/hub.md", "docs/learning.md"])
def test_the_documents_commands_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for line in re.findall(r"^langgraph-switch .*$", text, flags=re.MULTILINE):
        command, *words = line.split()[1:]
        shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"})
        assert shown.exit_code == 0
        for option in (word for word in words if word.startswith("--")):
            assert option in shown.output


def test_generated_parts_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"], check=False
    )
    assert done.returncode == 0


def test_the_readme_is_short_and_comes_to_the_point() -> None:
    lines = README.splitlines()
    assert len(lines) <= 120
    assert next(i for i, line in enumerate(lines) if line.startswith("make demo")) < 20
    assert next(i for i, line in enumerate(lines) if "llm.invoke" in line) < 35
