from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest
from conftest import read_answers, write_lines

pty = pytest.importorskip("pty")


def _on_a_terminal(
    arguments: list[str], *, typed: bytes = b"", stdout: Path | None = None
) -> tuple[str, int]:
    """Run the command on a terminal of its own; returns what it shows, and its exit code."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["TERM"], os.environ["COLORTERM"] = "xterm-256color", "truecolor"
        if stdout is not None:
            os.dup2(os.open(stdout, os.O_WRONLY | os.O_CREAT), 1)
        command = [sys.executable, "-m", "langgraph_switch.cli", *arguments]
        os.execv(sys.executable, command)  # noqa: S606
    shown = b""
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # Linux says so at the end.
            break
        if not piece:
            break
        shown += piece
        if typed and b"Question: " in shown:
            os.write(terminal, typed)
            typed = b""
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return shown.decode("utf-8", "replace"), code


def test_a_terminal_sees_colours_and_is_asked_for_the_question(
    candidates: list[str],
) -> None:
    shown, code = _on_a_terminal(["run", *candidates], typed=b"Why?\n")
    assert code == 0, shown
    assert "Question: " in shown
    colors = set(re.findall(r"\x1b\[(38;2;\d+;\d+;\d+)m", shown))
    assert len(colors) == 3
    # Nothing but colours, the cursor's and lines' commands of the spinner.
    commands = set(re.findall(r"\x1b(\[[0-9;?]*[A-Za-z]|.)", shown))
    assert {c[-1] for c in commands} <= set("mhlAK")
    assert "seed 1" in shown
    assert "it/s" not in shown


def test_answers_into_a_file_do_not_end_up_on_the_terminal(
    candidates: list[str], tmp_path: Path
) -> None:
    questions = write_lines(tmp_path / "q.jsonl", ["One?", "Two?", "Three?"])
    shown, code = _on_a_terminal(
        ["run", *candidates, "--input", str(questions)], stdout=tmp_path / "out.jsonl"
    )
    assert code == 0, shown
    assert sorted(read_answers(tmp_path / "out.jsonl")) == [1, 2, 3]
    assert "3/3" in shown
    assert "answers/s" in shown
    assert "trace_id" not in shown
