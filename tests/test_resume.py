from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import resume_program
from langgraph.checkpoint.sqlite import SqliteSaver
from tiny_models import make_engine, random_model, switch_config

from langgraph_switch import ScriptedEngine, Switch, build_graph
from langgraph_switch.trace import Trace

PROGRAM = Path(resume_program.__file__)
_TIMES = ("decide_s", "generate_s", "prefill_tokens", "cached_tokens")


def run(database: Path, kill_after: int, durability: str = "sync") -> Any:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(database), "thread", str(kill_after), durability],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROGRAM.parent)},
    )
    if kill_after:
        assert done.returncode == -signal.SIGKILL, done.stderr
        return None
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def without_times(traces: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for trace in traces:
        for segment in trace["segments"]:
            for key in _TIMES:
                del segment[key]
            if segment["probabilities"]:
                segment["probabilities"] = [round(p, 4) for p in segment["probabilities"]]
    return traces


@pytest.fixture(scope="module")
def whole() -> list[dict[str, Any]]:
    """The run that nothing interrupts, without a checkpointer."""
    queries = [{"query": query, "seed": resume_program.SEED} for query in resume_program.QUERIES]
    graph = build_graph(resume_program.make_switch())
    return without_times(graph.invoke({"queries": queries})["traces"])


@pytest.mark.parametrize(("durability", "kills"), [("sync", (3, 8)), ("async", (6,))])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, durability: str, kills: tuple[int, ...], whole: list[dict[str, Any]]
) -> None:
    for kill_after in kills:
        run(tmp_path / "killed.sqlite", kill_after, durability)
    resumed = run(tmp_path / "killed.sqlite", 0)
    assert resumed["resumed"]
    assert without_times(resumed["traces"]) == whole
    assert [trace["finish_reason"] for trace in resumed["traces"]] == ["length"] * 3


def test_a_run_keeps_the_seed_that_was_drawn_for_it(tmp_path: Path) -> None:
    config: Any = {"configurable": {"thread_id": "t"}}
    model = random_model()
    switch = Switch(
        switch_config("ab", seed=None, sampling={"temperature": 1.0}),
        engines={"a": make_engine(model), "b": make_engine(model)},
    )
    with SqliteSaver.from_conn_string(str(tmp_path / "db")) as saver:
        graph = build_graph(switch, checkpointer=saver)
        graph.invoke({"queries": ["hello"]}, config, interrupt_before=["decide"])
        drawn = graph.get_state(config).values["traces"][0]["seed"]
        for _ in range(3):  # Interrupted again before every decision, then to the end.
            graph.invoke(None, config, interrupt_before=["decide"])
        resumed = graph.invoke(None, config)["traces"][0]
    whole = build_graph(switch).invoke({"queries": [{"query": "hello", "seed": drawn}]})
    assert Trace.from_json(resumed).text == Trace.from_json(whole["traces"][0]).text


def test_a_checkpoint_does_not_grow_with_the_response(tmp_path: Path) -> None:
    engines = {name: ScriptedEngine(lambda _: "a word ") for name in "ab"}
    config = switch_config("ab", max_tokens=700, switcher={"kind": "random"})
    database = tmp_path / "db"
    with SqliteSaver.from_conn_string(str(database)) as saver:
        graph = build_graph(Switch(config, engines=engines), checkpointer=saver)
        run_config: Any = {"configurable": {"thread_id": "t"}, "recursion_limit": 1000}
        result = graph.invoke({"queries": ["q"]}, run_config, durability="sync")
    assert len(result["traces"][0]["segments"]) == 100
    with sqlite3.connect(database) as connection:
        sizes = [
            size
            for (size,) in connection.execute(
                "select length(checkpoint) from checkpoints order by checkpoint_id"
            )
        ]
        writes = [
            size
            for (size,) in connection.execute(
                "select sum(length(value)) from writes group by checkpoint_id "
                "order by checkpoint_id"
            )
        ]
    assert len(sizes) > 300
    early, late = max(sizes[10:40]), sorted(sizes[200:])[-10]
    assert late < 1.2 * early  # But for a snapshot now and then.
    # The last step writes the finished trace; all others write one segment.
    assert max(writes[-30:-2]) < 1.2 * max(writes[5:30])
