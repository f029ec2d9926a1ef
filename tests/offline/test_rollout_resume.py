from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rollout_program import make_job

from langgraph_switch.offline.collect import collect_rollouts

PROGRAM = Path(__file__).parent / "rollout_program.py"


def run(folder: Path, kill_after: int) -> int:
    path = os.pathsep.join([str(PROGRAM.parent), str(PROGRAM.parents[1])])
    env = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(PROGRAM), str(folder), str(kill_after)]
    return subprocess.run(command, env=env, check=False).returncode


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    job = make_job(tmp_path_factory.mktemp("whole"))
    collect_rollouts(job)
    return list(job.shards.rows())


def test_killed_again_and_again_it_ends_with_the_same_rows(
    tmp_path: Path, uninterrupted: list[dict[str, object]]
) -> None:
    # 24 completions a chunk: dies inside the first chunk, inside the second, at a chunk's end.
    for kill_after in (7, 31, 24):
        assert run(tmp_path, kill_after) == -signal.SIGKILL
    assert run(tmp_path, 0) == 0
    job = make_job(tmp_path)
    assert list(job.shards.rows()) == uninterrupted
    assert not (tmp_path / "state.sqlite").exists()


def test_the_chunk_in_flight_goes_on_at_the_step_that_was_not_finished(
    tmp_path: Path, uninterrupted: list[dict[str, object]]
) -> None:
    class Stop(Exception):  # noqa: N818 - an interruption, no error
        pass

    def stop(event: dict[str, object]) -> None:
        if event["type"] == "completed":
            raise Stop

    job = make_job(tmp_path)
    with pytest.raises(Stop):
        collect_rollouts(job, on_event=stop)
    again = make_job(tmp_path)
    written = []
    write = again.switch.write_all
    again.switch.write_all = lambda *args: written.append(args) or write(*args)  # type: ignore[method-assign]
    collect_rollouts(again)
    assert list(again.shards.rows()) == uninterrupted
    turns = [turn for (writings,) in written for one in writings for turn in one.turns]
    begun_again = {turn.trace.trace_id for turn in turns if not turn.trace.segments}
    assert begun_again == {"q2", "q3", "q4"}, "the first chunk was not begun from nothing"
