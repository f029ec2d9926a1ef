"""What do forks and shared batches save in rollouts?

Behind the prefix of a query three candidates write one segment each, and every branch is completed
eight times, 512 tokens in all. Ours: branches fork the prefix's keys and values, all completions of
all branches are one batch. Against it: each completion by itself, nothing remembered.

    python benchmarks/rollouts.py --keep     # about 4 minutes with one thread
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from dataclasses import replace

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from switchbench.contestants import NAMES, Job, Models, make_config
from switchbench.models import SIZES
from switchbench.records import keep
from switchbench.timing import set_threads

from langgraph_switch import Switch, SwitchConfig, Trace
from langgraph_switch.floor import Decision
from langgraph_switch.loop import finish_traces
from langgraph_switch.queries import trace_from_query
from langgraph_switch.seeds import derive_seed
from langgraph_switch.switchers.base import Turn

COMPLETIONS = 8
LIMIT = 0.4


def main() -> None:
    """Measure pairs and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=list(SIZES), default="5M")
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--keep", action="store_true", help="write the figures into records.json")
    args = parser.parse_args()
    machine = set_threads(1, pin=True)
    models = Models(SIZES[args.size], seed=1)
    job = Job(models.prompts(args.pairs, seed=1), args.tokens, 50, greedy=False, seed=1)
    config = make_config(job).with_changes(switcher={"kind": "random"})
    ours = make_switch(models, config, kv_cache_bytes=2**31)
    apart = make_switch(models, config, kv_cache_bytes=0)
    pairs = []
    for prompt in job.prompts:
        prefix = write_prefix(ours, prompt, num_segments=args.tokens // 50 // 2)
        together_s, together = timed(ours, prefix, rollout_together)
        apart_s, alone = timed(apart, prefix, rollout_apart)
        if [one.num_tokens for one in together] != [one.num_tokens for one in alone]:
            raise RuntimeError("the two ways did different work")
        pairs.append({"ours_s": together_s, "apart_s": apart_s, "ratio": together_s / apart_s})
        print(f"ours {together_s:.1f} s, apart {apart_s:.1f} s: {together_s / apart_s:.2f}")
    ratio = statistics.median(pair["ratio"] for pair in pairs)
    print(f"ours / apart: {ratio:.2f} (at most {LIMIT})")
    if args.keep:
        found = {"tokens": args.tokens, "size": args.size, "pairs": pairs, "ratio": ratio}
        keep("rollouts", found | {"limit": LIMIT, "machine": machine})


def make_switch(models: Models, config: SwitchConfig, *, kv_cache_bytes: int) -> Switch:
    """Return a switch whose engines remember so much."""
    engines = {name: models.engine(name, kv_cache_bytes=kv_cache_bytes) for name in NAMES}
    return Switch(config, engines=engines)


def write_prefix(switch: Switch, prompt: str, *, num_segments: int) -> Trace:
    """Return the first segments of a response."""
    [whole] = finish_traces(
        switch, [Turn(trace_from_query({"query": prompt, "seed": 1}, switch.config), "p")]
    )
    return replace(whole, segments=whole.segments[:num_segments], finish_reason=None)


def timed(switch: Switch, prefix: Trace, rollout: object) -> tuple[float, list[Trace]]:
    """Return how long a way takes, and what it writes."""
    started = time.perf_counter()
    written = rollout(switch, prefix)  # type: ignore[operator]
    return time.perf_counter() - started, written


def rollout_together(switch: Switch, prefix: Trace) -> list[Trace]:
    """Complete every branch from shared memory, in one batch."""
    branches = [branch(switch, prefix, speaker, row="p") for speaker in NAMES]
    turns = [
        Turn(with_seed(one, name, number), f"{name}/{number}", fork_of="p")
        for name, one in zip(NAMES, branches, strict=True)
        for number in range(COMPLETIONS)
    ]
    finished = finish_traces(switch, turns)
    switch.release(["p"])
    return finished


def rollout_apart(switch: Switch, prefix: Trace) -> list[Trace]:
    """Write every completion from the query on its own."""
    return [
        finish_traces(
            switch, [Turn(with_seed(branch(switch, prefix, name, row="q"), name, number), "q")]
        )[0]
        for name in NAMES
        for number in range(COMPLETIONS)
    ]


def branch(switch: Switch, prefix: Trace, speaker: str, *, row: str) -> Trace:
    """Return the prefix with one more segment."""
    decision = Decision(speaker=speaker, decided_by="fixed")
    [draft] = switch.write(speaker, [Turn(prefix, row)], [decision])
    return switch.append(prefix, draft)


def with_seed(trace: Trace, name: str, number: int) -> Trace:
    """Return a branch whose completion has draws of its own."""
    return replace(trace, seed=derive_seed(trace.seed, trace.trace_id, number, name))


if __name__ == "__main__":
    main()
