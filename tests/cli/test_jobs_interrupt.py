from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import Cli, read_answers, write_lines

_NUM_LINES = 60
_MAIN = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # A background shell ignores it.
sys.argv[0] = "langgraph-switch"
from langgraph_switch.cli import main
main()
"""


def _kill_after(num_answers: int, how: signal.Signals, arguments: list[str], output: Path) -> int:
    command = [sys.executable, "-c", _MAIN, *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 60
        while not output.exists() or output.read_bytes().count(b"\n") < num_answers:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.send_signal(how)
        _, stderr = process.communicate(timeout=60)
    if how == signal.SIGINT:
        assert b"Interrupted" in stderr
        assert b"run the same command again to continue" in stderr
        assert b"Traceback" not in stderr
    return process.returncode


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_killed_runs_continue_to_the_same_answers(
    cli: Cli, candidates: list[str], tmp_path: Path
) -> None:
    questions = write_lines(
        tmp_path / "questions.jsonl",
        [{"query": f"Number {n}?", "id": n} for n in range(_NUM_LINES)],
    )
    answers, whole = tmp_path / "answers.jsonl", tmp_path / "whole.jsonl"
    options = ["run", *candidates, "--switcher", "aligned", "--input", str(questions)]
    small = [*options, "--output", str(answers), "--batch-size", "2"]

    assert _kill_after(5, signal.SIGINT, small, answers) == 130
    after_ctrl_c = answers.read_bytes()
    assert after_ctrl_c.endswith(b"\n")
    num_done = after_ctrl_c.count(b"\n")
    assert 5 <= num_done < _NUM_LINES

    assert _kill_after(num_done + 5, signal.SIGKILL, small, answers) == -signal.SIGKILL
    after_kill = answers.read_bytes()
    assert after_kill.startswith(after_ctrl_c)  # Finished lines stay.
    with answers.open("ab") as file:
        file.write(b'{"line": 59, "id": 58, "que')  # Died in the middle of a line.

    done = cli(*options, "--output", answers, "--batch-size", "16")
    assert done.exit_code == 0, done.output
    assert f"of {_NUM_LINES} lines are answered already" in done.stderr
    assert answers.read_bytes().startswith(after_kill)
    assert cli(*options, "--output", whole).exit_code == 0
    assert read_answers(answers) == read_answers(whole)
    assert len(read_answers(whole)) == _NUM_LINES
