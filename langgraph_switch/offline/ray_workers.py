"""Ray actors as workers: each holds the models, on a GPU of its own where there are GPUs.

A lost worker is started again by Ray and does its unit again; what it had told already is not told
twice. What workers tell goes through Ray to the driver, which writes the files. Knows nothing of
rollouts or evaluations.
"""

from __future__ import annotations

import logging
import os
import pickle
import socket
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from langgraph_switch.errors import ConfigError, EngineError, InputError, MissingExtraError
from langgraph_switch.offline.workers import Event, Unit, Work

try:
    import ray
    import ray.exceptions
except ImportError as err:
    raise MissingExtraError("Work on a Ray cluster", extra="ray") from err

LOCAL = "local"
"""The address of a cluster that is started here, and ended with the work."""
AUTO = "auto"
"""The address of the cluster that this machine belongs to."""

_CONNECT_TIMEOUT_S = 5.0
_PLACEMENT_TIMEOUT_S = 120.0
_OBJECT_STORE_BYTES = 200 * 2**20  # Of a local cluster: rows and questions are all it holds.
_UNIT_RETRIES = 3
_RayError = ray.exceptions.RayError
_DONE: Event = {"type": "unit done"}


class RayWorkers:
    """Workers on a Ray cluster; a context manager that ends what it began.

    Example:
        with RayWorkers("local", workers=2) as workers:
            collect_rollouts(job, workers=workers)
    """

    def __init__(
        self,
        address: str = LOCAL,
        *,
        workers: int = 1,
        gpus_per_worker: float | None = None,
        cpus_per_worker: float = 1,
    ) -> None:
        """Start a cluster here, or join one.

        Args:
            address: `local`, `auto` or HOST:PORT of a cluster's head.
            workers: Processes that each load the models.
            gpus_per_worker: By default 1 where the cluster has GPUs; a fraction shares one.
            cpus_per_worker: What each reserves; more than one lets an engine use more threads.

        Raises:
            ConfigError: Nothing answers at the address, or it has too few CPUs or GPUs.
        """
        if workers < 1:
            raise InputError(f"There must be a worker, got {workers}.", hint="pass --workers 1")
        self.address = address
        self.num_workers = workers
        self._is_joined = ray.is_initialized()
        if not self._is_joined:
            _connect(address)
        try:
            self._resources = self._reserve(workers, gpus_per_worker, cpus_per_worker)
        except BaseException:
            self.close()
            raise

    def run(self, work: Work[Unit], units: Sequence[Unit]) -> Generator[tuple[Unit, Event]]:
        """Do every unit; yield what happens as it happens, each event beside its unit.

        Raises:
            ConfigError: The work cannot be sent to other processes.
            EngineError: No worker could be started, or a unit lost its worker again and again.
            SwitchError: What a worker raised.
        """
        sent = _send(work)  # Held here: a worker that is started again reads it again.
        actor_class = ray.remote(_Worker)
        actors = [
            actor_class.options(
                **self._resources, max_restarts=-1, max_task_retries=_UNIT_RETRIES
            ).remote(sys.path)
            for _ in range(min(self.num_workers, len(units)))
        ]
        try:
            yield from _Round(actors, sent, units).events()
        finally:
            for actor in actors:
                ray.kill(actor)  # type: ignore[arg-type]

    def close(self) -> None:
        """End the cluster if it was started here, or leave the one that was joined."""
        if not self._is_joined:
            ray.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _reserve(
        self, workers: int, gpus_per_worker: float | None, cpus_per_worker: float
    ) -> dict[str, float]:
        """Return what each worker reserves, if the cluster has so much for all of them."""
        there = ray.cluster_resources()  # type: ignore[no-untyped-call]
        gpus = gpus_per_worker if gpus_per_worker is not None else float(there.get("GPU", 0) >= 1)
        for kind, each in (("CPU", cpus_per_worker), ("GPU", gpus)):
            has = there.get(kind, 0)
            if each * workers > has:
                fit = int(has / each)
                shared = ", or share GPUs with --gpus-per-worker 0.5" if kind == "GPU" else ""
                raise ConfigError(
                    f"{workers} workers need {each * workers:g} {kind}s; the Ray cluster "
                    f"{self.address!r} has {has:g}.",
                    hint=(f"pass --workers {fit}" if fit else f"add {kind}s")
                    + f", or name a larger cluster with --ray HOST:PORT{shared}",
                )
        return {"num_cpus": cpus_per_worker, "num_gpus": gpus}


class _Worker:
    """What runs in each process: loads the work's models when it gets its first unit."""

    def __init__(self, paths: list[str]) -> None:
        # Ray hands on the driver's folder, not where a score's own module was found.
        sys.path.extend(path for path in paths if path not in sys.path)
        self._do: Callable[[Any], Iterator[Event]] | None = None

    def place(self) -> None:
        """Return once the process is there."""

    def run(self, unit: Any, sent: list[Any]) -> Iterator[Event]:
        """Do a unit; the last event says that it is done."""
        if self._do is None:
            self._do = ray.get(sent[0]).start()
        for event in self._do(unit):  # noqa: UP028 - Ray sends into generators, not all can take it
            yield event
        yield _DONE


class _Round:
    """Units on their way through workers."""

    def __init__(self, actors: Sequence[Any], sent: Any, units: Sequence[Any]) -> None:
        self._sent = sent
        self._waiting = deque(units)
        self._placing = {actor.place.remote(): actor for actor in actors}
        self._streams: dict[Any, tuple[Any, Any]] = {}
        """Streams of events in progress, with their actor and unit."""
        self._done: set[Any] = set()
        """Those of them that said so; their end follows."""

    def events(self) -> Iterator[tuple[Any, Event]]:
        """Yield what happens until every unit is done."""
        while self._waiting or self._streams:
            # A worker may load models for hours; that a process starts at all must not take long.
            timeout_s = None if self._streams else _PLACEMENT_TIMEOUT_S
            ready, _ = ray.wait([*self._placing, *self._streams], timeout=timeout_s)
            if not ready:
                raise EngineError(
                    f"No Ray worker was started within {_PLACEMENT_TIMEOUT_S:g} s: the cluster "
                    "is busy.",
                    hint="wait for its other work, or pass fewer --workers",
                    retryable=True,
                )
            if ready[0] in self._placing:
                self._begin(self._placing.pop(ready[0]))
            else:
                yield from self._next_event(ready[0])

    def _begin(self, actor: Any) -> None:
        if self._waiting:
            unit = self._waiting.popleft()
            stream = actor.run.options(num_returns="streaming").remote(unit, [self._sent])
            self._streams[stream] = (actor, unit)

    def _next_event(self, stream: Any) -> Iterator[tuple[Any, Event]]:
        actor, unit = self._streams[stream]
        try:
            event = ray.get(next(stream))
        except StopIteration:
            if stream not in self._done:  # A second attempt told less than the first: once more.
                self._waiting.append(unit)
            self._done.discard(stream)
        except ray.exceptions.RayTaskError as err:
            if isinstance(err.cause, Exception) and not isinstance(err.cause, _RayError):
                raise err.cause from None
            raise EngineError(
                f"A Ray worker could not read its work: {str(err.cause).splitlines()[0]}",
                hint="install the same packages on every machine of the cluster",
            ) from err
        except _RayError as err:
            raise EngineError(
                f"Unit {unit!r} lost its Ray worker, {_UNIT_RETRIES} retries included: "
                f"{str(err).splitlines()[0]}",
                hint="a worker's memory may be too small (fewer --workers, a smaller batch), or a "
                "machine lacks the package; what is done is kept: run the same command again",
                retryable=True,
            ) from err
        else:
            if event == _DONE:
                self._done.add(stream)
            else:
                yield unit, event
            return
        del self._streams[stream]
        self._begin(actor)


def _send(work: Any) -> Any:
    try:
        return ray.put(work)
    except (TypeError, pickle.PicklingError) as err:
        raise ConfigError(
            f"The work cannot be sent to Ray workers: {str(err).splitlines()[0]}",
            hint="use scores that hold no open files, locks or connections",
        ) from err


def _connect(address: str) -> None:
    """Start a cluster here, or join one that answers."""
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == LOCAL:
        with _without_usage_report():
            ray.init(
                address="local",
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE_BYTES,
                **quiet,
            )
        return
    if address != AUTO:
        _refuse_silent(address)
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError, _RayError) as err:
        raise ConfigError(
            f"Cannot join the Ray cluster {address!r}: {str(err).splitlines()[0]}",
            hint="start one with `ray start --head`, use the same Ray and Python versions "
            "everywhere, or pass --ray local",
        ) from err


def _refuse_silent(address: str) -> None:
    """Refuse an address at which nothing listens: Ray itself would try for a minute."""
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdigit():
        raise ConfigError(
            f"{address!r} is no address of a Ray cluster's head.",
            hint="write --ray HOST:PORT (6379 by default), auto or local; to use ray:// run the "
            "command on the cluster with `ray job submit`",
        )
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_TIMEOUT_S).close()
    except OSError as err:
        raise ConfigError(
            f"No Ray cluster answers at {address!r}: {err.strerror or err}.",
            hint="check the address (`ray status` on its head prints it), start one with "
            "`ray start --head`, or pass --ray local",
        ) from err


@contextmanager
def _without_usage_report() -> Iterator[None]:
    """Let the cluster that is started here report nothing to Ray's makers, unless told so."""
    name = "RAY_USAGE_STATS_ENABLED"
    if name in os.environ:
        yield
        return
    os.environ[name] = "0"
    try:
        yield
    finally:
        del os.environ[name]
