"""`langgraph-switch serve-family`: what it takes. What it does is imported when it runs."""

# ruff: noqa: PLC0415 - imports inside commands are the point of this module

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from langgraph_switch.cli.options import ScreenOptions, with_option_groups
from langgraph_switch.cli.screen import Screen, reporting

_LISTED = ","


def add_serve_commands(app: typer.Typer) -> None:
    """Give a command line the command serve-family."""
    app.command("serve-family")(with_option_groups(serve_family))


def serve_family(  # noqa: PLR0913, PLR0917 - a command's options
    family: Annotated[str, typer.Argument(help="A family's name, a switch.json or its folder.")],
    display: ScreenOptions,
    run: Annotated[
        bool, typer.Option("--run/--print", help="Start the servers here, or print how.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Where to write the switch.json that uses the servers.")
    ] = None,
    hosts: Annotated[
        str, typer.Option(help="Machines, separated by commas; servers go round them.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The first server's port.")] = 8000,
    max_model_len: Annotated[
        int | None, typer.Option(help="Tokens of context; default: 4096, or what a model has.")
    ] = None,
    api_key_env: Annotated[
        str | None, typer.Option(help="Environment variable with the key of the servers.")
    ] = None,
    gpus: Annotated[
        str, typer.Option(help="GPUs of each machine, by number and comma; default: one for all.")
    ] = "",
    cpu: Annotated[bool, typer.Option("--cpu", help="For vLLM's CPU build.")] = False,
    python: Annotated[
        str | None, typer.Option(help="The Python that has vLLM, if it is another one.")
    ] = None,
    start_timeout: Annotated[float, typer.Option(help="Seconds to wait, with --run.")] = 900,
) -> None:
    """Say which vLLM servers a family takes, or run them: one per base, the switcher on its own."""
    screen = Screen(display)
    with reporting(screen):
        from langgraph_switch.cli.serve import print_plan, run_plan
        from langgraph_switch.families import family_config
        from langgraph_switch.serving import ServeOptions, plan_servers

        options = ServeOptions(
            hosts=tuple(filter(None, hosts.split(_LISTED))),
            first_port=port,
            max_model_len=max_model_len,
            api_key_env=api_key_env,
            gpus=tuple(filter(None, gpus.split(_LISTED))),
            on_cpu=cpu,
            python=python,
        )
        plan = plan_servers(family_config(family), options)
        if out is not None:
            screen.note(f"Wrote {plan.config.save(out)}")
        if run:
            run_plan(plan, screen, timeout_s=start_timeout)
        else:
            print_plan(plan, screen, has_file=out is not None)
