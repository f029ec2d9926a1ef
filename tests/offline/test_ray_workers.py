from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import ray
from rollout_program import make_switch
from test_workers import HERE_TOLD, answers, completions, evaluation, rollouts

from langgraph_switch.errors import ConfigError, EngineError, InputError
from langgraph_switch.offline import RayWorkers, collect_rollouts, evaluate_switch
from langgraph_switch.offline.ray_workers import _connect
from langgraph_switch.offline.workers import Event
from langgraph_switch.scoring import Answer, FunctionScore

pytestmark = [pytest.mark.ray, pytest.mark.enable_socket]

COMMAND = [sys.executable, "-m", "langgraph_switch.cli"]
SMALL = ["--family", "tiny", "--task", "tiny/compose", "--max-tokens", "24", "--ray", "local",
         "--workers", "2"]  # fmt: skip
ROLLOUT = ["rollout", *SMALL, "--queries", "6", "--completions", "2", "--in-flight", "1"]


@pytest.fixture(scope="module")
def workers(_sockets: None) -> Iterator[RayWorkers]:
    with RayWorkers("local", workers=2) as found:
        yield found


@pytest.fixture(scope="module")
def _sockets() -> None:
    """Module fixtures are made before the marker is read."""
    import pytest_socket  # noqa: PLC0415

    pytest_socket.enable_socket()


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    job = rollouts(tmp_path_factory.mktemp("here"))
    collect_rollouts(job)
    return list(job.shards.rows())


@dataclass(frozen=True)
class DiesOnce:
    """A score that kills its process in the middle of a chunk, once; then judges like another."""

    base: Any
    mark: Path
    needs_references = True
    name = "exact_match"

    def __call__(self, answers: list[Answer]) -> Any:
        """Judge, or die."""
        if not self.mark.exists():
            self.mark.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        return self.base(answers)


@dataclass(frozen=True)
class Script:
    """Work that does as its units say."""

    folder: Path

    def start(self) -> Any:
        """Return what does a unit."""
        return self._do

    def _do(self, unit: str) -> Iterator[Event]:
        name, _, rest = unit.partition(":")
        tries = self.folder / name
        tries.write_text(tries.read_text() + "x" if tries.exists() else "x")
        yield {"type": "begun"}
        yield {"type": "begun"}
        if rest == "always" or (rest in {"once", "less"} and tries.read_text() == "x"):
            time.sleep(0.3)  # What was told is on its way.
            os.kill(os.getpid(), signal.SIGKILL)
        if rest == "raise":
            raise ConfigError("no good", hint="better")
        if rest == "break":
            raise ZeroDivisionError("by zero")
        yield from [{"type": "more"}] * (0 if rest == "less" else 2)
        yield {"type": "stored", "pid": os.getpid()}


def test_rows_are_those_of_one_process(
    workers: RayWorkers, here: list[dict[str, Any]], tmp_path: Path
) -> None:
    told: list[Event] = []
    job = rollouts(tmp_path)
    collect_rollouts(job, workers=workers, on_event=told.append)
    assert list(job.shards.rows()) == here
    assert completions(told) == HERE_TOLD


def test_a_killed_workers_queries_are_run_again_and_no_row_is_lost_or_doubled(
    workers: RayWorkers, here: list[dict[str, Any]], tmp_path: Path
) -> None:
    job = rollouts(tmp_path / "rows")
    mark = tmp_path / "died"
    told: list[Event] = []
    dying = type(job)(**(fields_of(job) | {"score": DiesOnce(job.score, mark)}))
    collect_rollouts(dying, workers=workers, on_event=told.append)
    assert mark.read_text(), "a worker was killed"
    assert list(job.shards.rows()) == here
    assert completions(told) == HERE_TOLD, "progress is not told twice"


def fields_of(job: Any) -> dict[str, Any]:
    return {name: getattr(job, name) for name in job.__dataclass_fields__}


def test_evaluation_answers_are_those_of_one_process(workers: RayWorkers, tmp_path: Path) -> None:
    jobs = [evaluation(tmp_path / name) for name in ("here", "elsewhere")]
    evaluate_switch(jobs[0])
    evaluate_switch(jobs[1], workers=workers)
    assert answers(jobs[1]) == answers(jobs[0])


def test_units_are_shared_and_each_is_told_once(workers: RayWorkers, tmp_path: Path) -> None:
    units = ["a", "b:once", "c", "d", "e:less"]
    found = list(workers.run(Script(tmp_path), units))
    stored = [unit for unit, event in found if event["type"] == "stored"]
    assert sorted(stored) == units
    assert [event["type"] for unit, event in found if unit == "b:once"] == [
        *["begun"] * 2, *["more"] * 2, "stored",
    ]  # fmt: skip
    assert (tmp_path / "b").read_text() == "xx"


def test_a_unit_that_always_kills_its_worker_ends_in_an_error(
    workers: RayWorkers, tmp_path: Path
) -> None:
    with pytest.raises(EngineError, match="lost its Ray worker, 3 retries") as info:
        list(workers.run(Script(tmp_path), ["a:always"]))
    assert info.value.retryable
    assert (tmp_path / "a").read_text() == "xxxx"
    assert list(workers.run(Script(tmp_path), ["fine"])), "the cluster still works"


def test_errors_come_back_as_they_were_raised(workers: RayWorkers, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no good") as info:
        list(workers.run(Script(tmp_path), ["a:raise"]))
    assert info.value.hint == "better"
    with pytest.raises(ZeroDivisionError, match="by zero"):
        list(workers.run(Script(tmp_path), ["b:break"]))


def test_breaking_off_ends_the_workers(workers: RayWorkers, tmp_path: Path) -> None:
    running = workers.run(Script(tmp_path), ["a", "b"])
    pid = next(event["pid"] for _, event in running if event["type"] == "stored")
    running.close()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{pid}").exists()


def test_work_that_cannot_be_sent_says_so(workers: RayWorkers, tmp_path: Path) -> None:
    job = rollouts(tmp_path)
    models = make_switch()
    score = FunctionScore(lambda answer: float(len(answer.response) + len(models.candidates)))
    with pytest.raises(ConfigError, match="cannot be sent") as info:
        collect_rollouts(type(job)(**(fields_of(job) | {"score": score})), workers=workers)
    assert "scores" in info.value.hint


def test_more_workers_than_the_cluster_has_are_refused(workers: RayWorkers) -> None:
    cpus = int(ray.cluster_resources()["CPU"])
    assert workers.num_workers <= cpus
    with pytest.raises(ConfigError, match=rf"{cpus + 1} CPUs; .* has {cpus}") as info:
        RayWorkers("local", workers=cpus + 1)
    assert f"--workers {cpus}" in info.value.hint
    with pytest.raises(ConfigError, match=r"1 GPUs; .* has 0"):
        RayWorkers("local", workers=1, gpus_per_worker=1)
    with pytest.raises(InputError, match="There must be a worker"):
        RayWorkers("local", workers=0)
    assert ray.is_initialized(), "a cluster that was there before is left alone"


def command(*args: str, **options: Any) -> subprocess.Popen[str]:
    env = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return subprocess.Popen(
        [*COMMAND, *args], env=env, stderr=subprocess.PIPE, text=True, **options
    )


def test_an_unknown_address_is_an_error_and_not_a_wait(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    began = time.monotonic()
    for address in ("nonsense", "ray://host:10001"):
        with pytest.raises(ConfigError, match="is no address"):
            _connect(address)
    with pytest.raises(ConfigError, match="No Ray cluster answers"):
        _connect(f"127.0.0.1:{port}")
    assert time.monotonic() - began < 10
    with command(*ROLLOUT, "--out", str(tmp_path), "--ray", f"127.0.0.1:{port}") as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 2, errors
    assert "No Ray cluster answers" in errors


def ray_processes(session: int) -> list[str]:
    """Return what still runs of a command and of the cluster that it started."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"RAY_TEST_MARK={session}".encode() in entry.read_bytes().split(b"\0"):
                found.append(entry.parent.name)
        except OSError:  # It has ended, or is not ours.
            continue
    return found


def test_interrupted_and_killed_it_goes_on_and_leaves_no_process(tmp_path: Path) -> None:
    out = tmp_path / "rows"
    for number, end, code in ((1, signal.SIGINT, 130), (2, signal.SIGKILL, -signal.SIGKILL)):
        mark = os.getpid() * 10 + number
        before = len(list(out.glob("shard-*.parquet")))
        os.environ["RAY_TEST_MARK"] = str(mark)
        with command(*ROLLOUT, "--out", str(out), start_new_session=True) as process:
            deadline = time.monotonic() + 120
            while len(list(out.glob("shard-*.parquet"))) <= before:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            if end == signal.SIGINT:
                os.killpg(process.pid, end)  # As a terminal does.
            else:
                process.kill()
            _, errors = process.communicate(timeout=60)
        del os.environ["RAY_TEST_MARK"]
        assert process.returncode == code, errors
        if end == signal.SIGINT:
            assert "run the same command again to continue" in errors
        # A killed driver takes the cluster along; its agents first wait for the head's answer.
        deadline = time.monotonic() + 180
        while ray_processes(mark) and time.monotonic() < deadline:
            time.sleep(0.5)
        left = [Path(f"/proc/{pid}/cmdline").read_text()[:200] for pid in ray_processes(mark)]
        assert left == []
    with command(*ROLLOUT, "--out", str(out)) as process:
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "queries are done already" in errors
    assert "6 rows" in errors
