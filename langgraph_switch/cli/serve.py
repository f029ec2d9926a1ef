"""`langgraph-switch serve-family`: what it prints and runs.

Knows nothing of how a plan comes about.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path

import typer

from langgraph_switch.cli.screen import Screen
from langgraph_switch.errors import ConfigError, EngineError
from langgraph_switch.server_processes import running_servers
from langgraph_switch.serving import ServePlan

_LOGS = Path("runs") / "servers"
_LOCAL = {"127.0.0.1", "localhost", "::1", "0.0.0.0"}  # noqa: S104 - compared, not bound
_LOOK_S = 1.0


def print_plan(plan: ServePlan, screen: Screen, *, has_file: bool) -> None:
    """Print each server's command, machine by machine, and the switch.json unless it is written."""
    for host in dict.fromkeys(server.host for server in plan.servers):
        typer.echo(f"# on {host}")
        for server in plan.servers:
            if server.host == host:
                typer.echo(server.shell())
    if not has_file:
        screen.note("The switch.json that uses them (--out FILE writes it):")
        typer.echo("# switch.json")
        typer.echo(json.dumps(plan.config.to_dict(), indent=2, ensure_ascii=False))


def run_plan(plan: ServePlan, screen: Screen, *, timeout_s: float) -> None:
    """Run the servers here until Ctrl-C.

    Raises:
        ConfigError: A server belongs on another machine.
        EngineError: A server did not start, or ended.
    """
    for host in {server.host for server in plan.servers}:
        if host not in _LOCAL:
            raise ConfigError(
                f"{host} is another machine.",
                hint="print the commands (--print) and type them there",
            )
    stop = threading.Event()
    with running_servers(plan.servers, _LOGS, timeout_s=timeout_s, on_event=screen.note) as servers:
        screen.note("All servers are ready. Ctrl-C stops them.")
        while not stop.wait(_LOOK_S):
            for server in servers:
                if server.process.poll() is not None:
                    raise EngineError(
                        f"{server.plan.url} ended:\n{server.tail()}", hint=f"see {server.log}"
                    )
