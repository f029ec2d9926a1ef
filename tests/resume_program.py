"""A run of the graph that is killed between two segments, or resumed; see test_resume.py.

python resume_program.py DATABASE THREAD KILL_AFTER DURABILITY
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

from langgraph.checkpoint.sqlite import SqliteSaver
from tiny_models import make_engine, random_model, switch_config

from langgraph_switch import Switch, build_graph

SEED = 11
QUERIES = ["hello", "how are you?", "naïve 🙂"]


def make_switch() -> Switch:
    """Return a sampling switch with an LM switcher."""
    config = switch_config(
        switcher={"kind": "lm", "candidate": "c"},
        sampling={"temperature": 1.0, "top_p": 0.95},
        max_tokens=40,
        segment={"max_tokens": 5},
        seed=None,
        limits={"live_traces": 2},
    )
    engines = {n: make_engine(random_model(seed=i)) for i, n in enumerate("abc")}
    return Switch(config, engines=engines)


def main() -> None:
    """Start or resume the run, and kill this process after some segments."""
    database, thread, kill_after, durability = sys.argv[1:]
    config: Any = {"configurable": {"thread_id": thread}, "recursion_limit": 1000}
    segments = 0
    with SqliteSaver.from_conn_string(database) as saver:
        graph = build_graph(make_switch(), checkpointer=saver)
        is_new = not graph.get_state(config).values
        queries = [{"query": query, "seed": SEED} for query in QUERIES]
        start = {"queries": queries} if is_new else None
        for event in graph.stream(start, config, stream_mode="custom", durability=durability):
            if event["type"] == "segment":
                segments += 1
                if segments == int(kill_after):
                    os.kill(os.getpid(), signal.SIGKILL)
        traces = graph.get_state(config).values["traces"]
    sys.stdout.write(json.dumps({"resumed": not is_new, "traces": traces}))


if __name__ == "__main__":
    main()
