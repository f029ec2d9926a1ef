"""The workers that the options ask for.

Knows nothing of what they do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from langgraph_switch.cli.learning_options import ClusterOptions
from langgraph_switch.cli.screen import Screen
from langgraph_switch.errors import InputError
from langgraph_switch.offline.workers import Workers


@contextmanager
def cluster_workers(options: ClusterOptions, screen: Screen) -> Iterator[Workers | None]:
    """Start a cluster or join one; yield its workers, or None for work in this process.

    Raises:
        InputError: Workers are asked for, and no cluster.
        ConfigError: The cluster cannot be joined, or is too small.
        MissingExtraError: Ray is not installed.
    """
    if options.ray is None:
        if options.workers is not None or options.gpus_per_worker is not None:
            raise InputError(
                "Workers are processes of a Ray cluster, and none is named.",
                hint="add --ray local, or --ray HOST:PORT",
            )
        yield None
        return
    from langgraph_switch.offline.ray_workers import LOCAL, RayWorkers  # noqa: PLC0415 - an extra

    if options.ray == LOCAL:
        screen.note("Starting Ray on this machine, about 10 seconds ...")
    with RayWorkers(
        options.ray,
        workers=options.workers or 1,
        gpus_per_worker=options.gpus_per_worker,
        cpus_per_worker=options.cpus_per_worker,
    ) as workers:
        yield workers
