from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from cli_models import save_family
from typer.testing import CliRunner, Result

from langgraph_switch.cli import app

Cli: TypeAlias = Callable[..., Result]


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return save_family(tmp_path_factory.mktemp("family"))


@pytest.fixture(scope="session")
def candidates(family: dict[str, Path]) -> list[str]:
    """The options that name the family, with short segments and a seed."""
    named = [part for name, path in family.items() for part in ("--candidate", f"{name}={path}")]
    return [*named, "--segment", "8", "--max-tokens", "40", "--seed", "1"]


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def cli() -> Cli:
    """Call the command in this process; stdin is a pipe."""

    def call(*arguments: str | Path, stdin: str = "") -> Result:
        return CliRunner().invoke(app, [os.fspath(one) for one in arguments], input=stdin)

    return call


def write_lines(path: Path, lines: list[Any]) -> Path:
    """Write JSONL; texts that start with `raw:` go in as they are."""
    texts = [
        line[4:] if isinstance(line, str) and line.startswith("raw:") else json.dumps(line)
        for line in lines
    ]
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


def read_answers(path: Path) -> dict[int, dict[str, Any]]:
    """Return the answers of a file by line number, without what differs from run to run."""
    answers: dict[int, dict[str, Any]] = {}
    for text in path.read_text(encoding="utf-8").splitlines():
        answer = json.loads(text)
        assert answer["line"] not in answers
        del answer["usage"]
        for segment in answer["trace"]["segments"]:
            for key in ("decide_s", "generate_s", "prefill_tokens", "cached_tokens"):
                del segment[key]
            if segment["probabilities"]:
                segment["probabilities"] = [round(p, 4) for p in segment["probabilities"]]
        answers[answer["line"]] = answer
    return answers
