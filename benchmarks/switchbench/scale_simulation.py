"""Many queries on many replicas, event by event.

A replica works on units of queries, a few traces at a time, and refills. The driver hands units
out, hears of every finished response and writes the rows, one thing after the other. Knows nothing
of models: times are given.
"""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass

MAX_SEGMENTS = 11


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Seconds that things take."""

    queries: int
    unit_queries: int
    live_traces: int
    one_trace_s: float
    """A segment of a lonely trace, its decision included."""
    full_batch_s: float
    """A segment for `live_traces` at once."""
    start_s: float
    load_s: float
    unit_s: float
    event_s: float
    shard_s: float


@dataclass(frozen=True)
class Outcome:
    """What a number of replicas came to."""

    replicas: int
    wall_s: float
    speedup: float
    """Against one replica without Ray, its models loaded."""
    bound: float
    """Amdahl's: only the replicas' own work is shared, and perfectly."""
    driver_share: float
    """Of the time that the driver was busy."""


def simulate(costs: Costs, *, replicas: int, seed: int = 0) -> Outcome:
    """Return how long it takes; the same seed asks the same queries."""
    draw = random.Random(seed)  # noqa: S311 - no secret
    lengths = [draw.randint(1, MAX_SEGMENTS) for _ in range(costs.queries)]
    size = costs.unit_queries
    units = [unit_events(costs, lengths[i : i + size]) for i in range(0, len(lengths), size)]
    work_s = sum(ends[-1] for ends in units)
    driver_s = len(units) * (costs.unit_s + costs.shard_s) + costs.queries * costs.event_s
    wall_s = _run(costs, units, replicas)
    serial_s = costs.start_s + driver_s
    bound = work_s / (serial_s + work_s / replicas)
    return Outcome(replicas, wall_s, work_s / wall_s, bound, driver_s / wall_s)


def unit_events(costs: Costs, lengths: list[int]) -> list[float]:
    """Return when each response of a unit ends, from the unit's beginning."""
    waiting, now = list(reversed(lengths)), 0.0
    live: list[int] = []
    ends: list[float] = []
    while waiting or live:
        while waiting and len(live) < costs.live_traces:
            live.append(waiting.pop())
        now += round_s(costs, len(live))
        live = [left - 1 for left in live]
        ends += [now] * sum(left == 0 for left in live)
        live = [left for left in live if left]
    return ends


def round_s(costs: Costs, live: int) -> float:
    """Return the time of a segment for so many traces: a line between the two measured points."""
    slope = (costs.full_batch_s - costs.one_trace_s) / (costs.live_traces - 1)
    return costs.one_trace_s + slope * (live - 1)


def _run(costs: Costs, units: list[list[float]], replicas: int) -> float:
    """Return when the last unit's rows are written."""
    left = iter(units)
    free_s = costs.start_s  # When the driver can do the next thing.
    # When something is told, by which replica, and whether its unit ends with it.
    queue = [(costs.start_s + costs.load_s, replica, True) for replica in range(replicas)]
    loading = set(range(replicas))
    while queue:
        when_s, replica, is_end = heapq.heappop(queue)
        free_s = max(free_s, when_s)
        if replica in loading:
            loading.remove(replica)
        else:
            free_s += costs.event_s + (costs.shard_s if is_end else 0)
        if is_end and (ends := next(left, None)):
            free_s += costs.unit_s
            for at in ends[:-1]:
                heapq.heappush(queue, (free_s + at, replica, False))
            heapq.heappush(queue, (free_s + ends[-1], replica, True))
    return free_s
