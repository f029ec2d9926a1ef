"""How far does it scale? Cost, bytes on the wire, and 10,000 queries on 1 to 64 replicas.

Reads the measured speed of one replica (results.json), measures here what Ray and the driver add,
builds the messages of a remote engine, and simulates the rest event by event. What is assumed is
listed in ASSUMED and printed as such. Downloads nothing.

    python benchmarks/scale.py                                        # prints the tables, 1 minute
    python benchmarks/scale.py --json benchmarks/scale.json --picture docs/scale.png
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from switchbench.scale_messages import Messages, row_bytes
from switchbench.scale_simulation import Costs, Outcome, simulate

from langgraph_switch import Switch
from langgraph_switch.families import family_config
from langgraph_switch.offline.ray_workers import RayWorkers
from langgraph_switch.offline.shards import ShardFolder
from langgraph_switch.offline.workers import Event
from langgraph_switch.report.markdown import markdown_table

RESULTS = Path(__file__).parent / "results.json"
REPLICAS = (1, 2, 4, 8, 16, 32, 64)
ASSUMED: dict[str, Any] = {
    "queries": 10_000,
    "queries per unit": 16,
    "traces in flight per replica": 8,
    "segments of a response": "1 to 11, all equally often",
    "USD per CPU hour": 0.05,
    "prompt tokens": 128,
    "response tokens": 512,
    "segment tokens": 50,
    "vocabulary": 128_256,
    "bytes of text per token": 4,
    "network, bytes per second": 125_000_000,
}
_UNITS, _EVENTS = 40, 50
_GIB, _KIB, _MS = 2**30, 2**10, 1000


@dataclass(frozen=True)
class Idle:
    """Work that computes nothing: what is left is Ray and the driver."""

    events: int

    def start(self) -> Callable[[int], Iterator[Event]]:
        """Return what tells so many events."""
        return lambda _: iter([{"type": "answered", "responses": 1}] * self.events)


@dataclass(frozen=True)
class Loading:
    """Work that loads the embedded family and does no more."""

    def start(self) -> Callable[[int], Iterator[Event]]:
        """Load it."""
        Switch(family_config("tiny"))
        return lambda _: iter([{"type": "answered", "responses": 1}])


def main() -> None:
    """Measure, simulate, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write all figures there")
    parser.add_argument("--picture", type=Path, help="draw the simulation there")
    args = parser.parse_args()
    speed = json.loads(RESULTS.read_text(encoding="utf-8"))
    ray = measure_ray()
    outcomes = {
        size: [simulate(costs(speed, size, ray), replicas=n) for n in REPLICAS]
        for size in ("5M", "90M")
    }
    tables = {
        "cost": cost_table(speed),
        "network": network_table(),
        "ray": ray_table(ray),
        "saturation": saturation_table(speed, ray),
        "replicas": replicas_table(outcomes),
        "assumed": markdown_table(["assumed", ""], [[k, f"{v}"] for k, v in ASSUMED.items()]),
    }
    print("\n\n".join(tables.values()))
    if args.picture:
        draw(outcomes, args.picture)
    if args.json:
        data = {
            "assumed": ASSUMED,
            "ray": ray,
            "machine": speed["machine"],
            "simulated": {size: [asdict(one) for one in found] for size, found in outcomes.items()},
            "markdown": tables,
        }
        args.json.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


def measure_ray() -> dict[str, float]:
    """Return what a cluster, a worker, a unit, an event and a shard cost on this machine."""
    began = time.perf_counter()
    with RayWorkers("local", workers=1) as workers:
        start_s = time.perf_counter() - began
        list(workers.run(Idle(1), [0]))  # The first of all actors is slower than others.
        idle_s = seconds(lambda: list(workers.run(Idle(1), [0])))
        load_s = seconds(lambda: list(workers.run(Loading(), [0])))
        few_s = seconds(lambda: list(workers.run(Idle(1), range(_UNITS))))
        many_s = seconds(lambda: list(workers.run(Idle(_EVENTS), range(_UNITS))))
    event_s = (many_s - few_s) / (_UNITS * (_EVENTS - 1))
    return {
        "cluster_start_s": start_s,
        "worker_start_s": idle_s,
        "worker_load_s": load_s,
        "unit_s": (few_s - idle_s) / (_UNITS - 1),
        "event_s": event_s,
        "shard_s": shard_seconds(),
        "row_bytes": row_bytes(ASSUMED["response tokens"], ASSUMED["segment tokens"]),
    }


def seconds(work: Callable[[], object]) -> float:
    """Return how long something takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def shard_seconds() -> float:
    """Return how long a unit's rows take to be on the disk."""
    text = "x" * row_bytes(ASSUMED["response tokens"], ASSUMED["segment tokens"])
    rows = [{"query_id": f"{i}", "response": text} for i in range(ASSUMED["queries per unit"])]
    with tempfile.TemporaryDirectory() as folder:
        shards = ShardFolder(folder, {})
        times = [seconds(partial(shards.write, i, rows)) for i in range(20)]
    return statistics.median(times)


def round_seconds(speed: dict[str, Any], size: str) -> tuple[float, float]:
    """Return the measured time of a segment of one trace, and of one for 8 traces at once."""
    one, many = (case_of(speed, size, batch) for batch in (1, 8))
    return tuple(case["median_wall_s"]["switch"] / case["num_segments"] for case in (one, many))


def case_of(speed: dict[str, Any], size: str, batch: int) -> dict[str, Any]:
    """Return a measured case."""
    found: dict[str, Any] = next(
        one for one in speed["cases"] if (one["size"], one["batch"]) == (size, batch)
    )
    return found


def costs(speed: dict[str, Any], size: str, ray: dict[str, float]) -> Costs:
    """Return what the simulation needs."""
    one_s, eight_s = round_seconds(speed, size)
    return Costs(
        queries=ASSUMED["queries"],
        unit_queries=ASSUMED["queries per unit"],
        live_traces=ASSUMED["traces in flight per replica"],
        one_trace_s=one_s,
        full_batch_s=eight_s,
        start_s=ray["cluster_start_s"],
        load_s=ray["worker_load_s"],
        unit_s=ray["unit_s"],
        event_s=ray["event_s"],
        shard_s=ray["shard_s"],
    )


def cost_table(speed: dict[str, Any]) -> str:
    """Return what a million tokens cost and how often the floor is given."""
    head = ["model", "batch", "switches/s", "tokens/s", "hours per 1 M tokens", "USD per 1 M"]
    rows = []
    for case in speed["cases"]:
        wall_s = case["median_wall_s"]["switch"]
        switches = case["num_segments"] * case["batch"] / wall_s
        rate = case["tokens_per_second"]["switch"]
        cells = []
        for name in ("switch", "generate"):
            hours = 1e6 / case["tokens_per_second"][name] / 3600
            cells.append((hours, hours * ASSUMED["USD per CPU hour"]))
        (hours, usd), (plain_hours, plain_usd) = cells
        rows.append([
            f"{case['num_parameters'] / 1e6:.1f} M", str(case["batch"]), f"{switches:.1f}",
            f"{rate:.0f}", f"{hours:.2f} (alone {plain_hours:.2f})",
            f"{usd:.3f} (alone {plain_usd:.3f})",
        ])  # fmt: skip
    return markdown_table(head, rows)


def messages() -> Messages:
    """Return the messages of a remote engine."""
    return Messages(
        vocabulary=ASSUMED["vocabulary"],
        segment_tokens=ASSUMED["segment tokens"],
        text_bytes=ASSUMED["bytes of text per token"],
    )


def network_table() -> str:
    """Return the bytes of a segment, early and late in a response, and of a whole response."""
    made, prompt = messages(), ASSUMED["prompt tokens"]
    total, step = ASSUMED["response tokens"], ASSUMED["segment tokens"]
    starts = list(range(0, total, step))
    shown = {"first segment": starts[:1], "last segment": starts[-1:], "whole response": starts}
    rows = []
    for what, places in shown.items():
        kinds = [
            [made.generate(prompt + at) for at in places],
            [made.streamed(prompt + at) for at in places],
            [made.decide(prompt + at) for at in places],
        ]
        sums = [(sum(sent for sent, _ in k), sum(got for _, got in k)) for k in kinds]
        rows.append([what, *(f"{sent / _KIB:.1f} + {got / _KIB:.1f}" for sent, got in sums)])
    head = ["KiB, sent + received", "segment", "segment, streamed", "decision"]
    return markdown_table(head, rows)


def ray_table(ray: dict[str, float]) -> str:
    """Return what Ray and the driver cost."""
    rows = [
        ["start a cluster on this machine", f"{ray['cluster_start_s']:.1f} s"],
        ["start a worker's process", f"{ray['worker_start_s']:.1f} s"],
        ["the same, with torch and the embedded family loaded", f"{ray['worker_load_s']:.1f} s"],
        ["hand out a unit of work and hear that it is done", f"{ray['unit_s'] * _MS:.1f} ms"],
        ["one event (a finished response) from worker to driver", f"{ray['event_s'] * _MS:.2f} ms"],
        ["write a shard of 16 responses, on the disk", f"{ray['shard_s'] * _MS:.1f} ms"],
        ["a stored response of 512 tokens", f"{ray['row_bytes'] / _KIB:.1f} KiB"],
    ]  # fmt: skip
    return markdown_table(["measured", ""], rows)


def saturation_table(speed: dict[str, Any], ray: dict[str, float]) -> str:
    """Return at how many replicas each shared part is full."""
    per_unit = ASSUMED["queries per unit"]
    driver_s = ray["event_s"] + (ray["unit_s"] + ray["shard_s"]) / per_unit
    made, prompt, step = messages(), ASSUMED["prompt tokens"], ASSUMED["segment tokens"]
    starts = range(0, ASSUMED["response tokens"], step)
    wire = sum(sum(made.generate(prompt + at)) + sum(made.decide(prompt + at)) for at in starts)
    rows = []
    for size in ("5M", "90M"):
        case = case_of(speed, size, 8)
        per_s = case["batch"] / case["median_wall_s"]["switch"]  # Responses of one replica.
        network = ASSUMED["network, bytes per second"]
        full = (
            1 / (driver_s * per_s),
            network / (ray["row_bytes"] * per_s),
            network / (wire * per_s),
        )
        name = f"{case['num_parameters'] / 1e6:.1f} M"
        rows.append([name, f"{per_s:.2f}", *(f"{n:,.0f}" for n in full)])
    head = ["model", "responses/s of a replica", "the driver's one thread", "the driver's network",
            "one network for all remote engines"]  # fmt: skip
    return markdown_table(head, rows)


def replicas_table(outcomes: Mapping[str, Sequence[Outcome]]) -> str:
    """Return the simulation."""
    head = ["replicas"]
    for size in outcomes:
        head += [f"{size}: minutes", "speedup", "Amdahl's bound", "of the bound"]
    rows = []
    for places in zip(*outcomes.values(), strict=True):
        cells = [str(places[0].replicas)]
        for one in places:
            cells += [
                f"{one.wall_s / 60:.1f}", f"{one.speedup:.1f}", f"{one.bound:.1f}",
                f"{100 * one.speedup / one.bound:.0f} %",
            ]  # fmt: skip
        rows.append(cells)
    return markdown_table(head, rows)


def draw(outcomes: Mapping[str, Sequence[Outcome]], path: Path) -> None:
    """Draw speedups beside their bounds."""
    import matplotlib as mpl  # noqa: PLC0415 - slow to import, and only wanted here

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    axes.plot(REPLICAS, REPLICAS, color="0.8", label="one replica's speed times their number")
    for (size, found), colour in zip(outcomes.items(), ("#2a6fbb", "#c2571a"), strict=True):
        x = [one.replicas for one in found]
        axes.plot(x, [one.bound for one in found], "--", color=colour, label=f"{size}: Amdahl")
        axes.plot(x, [one.speedup for one in found], "o-", color=colour, label=f"{size}: simulated")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xticks(REPLICAS, [str(n) for n in REPLICAS])
    axes.set_yticks(REPLICAS, [str(n) for n in REPLICAS])
    axes.set_xlabel("replicas")
    axes.set_ylabel("speedup")
    axes.set_title(f"{ASSUMED['queries']:,} queries, simulated from one replica's measured times")
    axes.legend(frameon=False)
    axes.grid(alpha=0.2)
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
