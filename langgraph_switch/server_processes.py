"""Servers as processes of this machine: start them, wait until they are healthy, stop them.

Knows nothing of models.
"""

from __future__ import annotations

import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from langgraph_switch.errors import ConfigError, EngineError
from langgraph_switch.serving import ServerPlan

_POLL_S = 0.5
_STOP_S = 20.0
_TAIL_CHARACTERS = 2000
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server's process and where it writes."""

    plan: ServerPlan
    process: subprocess.Popen[bytes]
    log: Path

    def tail(self) -> str:
        """Return the last lines that it wrote."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-_TAIL_CHARACTERS:]


@contextmanager
def running_servers(
    plans: Sequence[ServerPlan],
    folder: Path,
    *,
    timeout_s: float,
    on_event: Callable[[str], None] = lambda _: None,
) -> Iterator[list[RunningServer]]:
    """Run servers while the context lasts; it is entered when all are healthy.

    Args:
        plans: What to start, on this machine.
        folder: Where each writes its log.
        timeout_s: Longest wait for all.
        on_event: Hears of what happens, in words.

    Raises:
        ConfigError: The key is not in the environment, or the program is not there.
        EngineError: A server ended, or was not healthy in time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    servers: list[RunningServer] = []
    try:
        for plan in plans:
            servers.append(_start(plan, folder / f"server-{plan.port}.log"))
            on_event(f"Starting {plan.url}, log in {servers[-1].log}")
        deadline = time.monotonic() + timeout_s
        for server in servers:
            _wait_until_healthy(server, servers, deadline)
            on_event(f"{server.plan.url} is ready")
        yield servers
    finally:
        for server in servers:
            server.process.terminate()
        for server in servers:
            _stop(server.process)


def _start(plan: ServerPlan, log: Path) -> RunningServer:
    environment = os.environ | plan.environment
    if plan.key_env:
        if not os.environ.get(plan.key_env):
            raise ConfigError(
                f"The environment variable {plan.key_env!r} is not set.",
                hint=f"export {plan.key_env}=...",
            )
        environment["VLLM_API_KEY"] = os.environ[plan.key_env]
    with log.open("wb") as out:
        try:
            # A session of its own: Ctrl-C reaches this process alone, which stops the servers.
            process = subprocess.Popen(  # noqa: S603 - what the plan says
                plan.command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except FileNotFoundError as err:
            raise ConfigError(
                f"There is no program {plan.command[0]!r}.", hint="install vLLM, or use --python"
            ) from err
    return RunningServer(plan, process, log)


def _wait_until_healthy(
    server: RunningServer, servers: Sequence[RunningServer], deadline: float
) -> None:
    while not is_healthy(server.plan.url):
        for one in servers:
            if one.process.poll() is not None:
                raise EngineError(
                    f"{one.plan.url} ended with status {one.process.returncode}:\n{one.tail()}",
                    hint=f"see {one.log}; is vLLM installed there? (pip install vllm, or "
                    "--python PATH)",
                )
        if time.monotonic() > deadline:
            raise EngineError(
                f"{server.plan.url} was not ready in time:\n{server.tail()}",
                hint="allow more with --start-timeout",
            )
        time.sleep(_POLL_S)


def is_healthy(url: str) -> bool:
    """Return whether a server says that it is well."""
    try:
        with _OPENER.open(f"{url}/health", timeout=5) as answer:
            return bool(answer.status == 200)  # noqa: PLR2004 - HTTP's OK
    except (urllib.error.URLError, OSError):
        return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(timeout=_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
