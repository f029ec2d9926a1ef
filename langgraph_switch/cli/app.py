"""The commands: what they are called and take. What they do is imported when they run.

So `--help` is fast: LangGraph takes a second to load, torch more.
"""

# ruff: noqa: PLC0415 - imports inside commands are the point of this module

from __future__ import annotations

import io
import os
import sys
from typing import Annotated

import typer

from langgraph_switch._version import __version__
from langgraph_switch.cli.compress_app import add_compress_command
from langgraph_switch.cli.hub_app import add_hub_commands
from langgraph_switch.cli.learning_app import add_learning_commands
from langgraph_switch.cli.options import (
    DISPLAY,
    WHO,
    JobOptions,
    ScreenOptions,
    SwitchOptions,
    with_option_groups,
)
from langgraph_switch.cli.screen import EXIT_INTERRUPTED, Screen, reporting
from langgraph_switch.cli.serve_app import add_serve_commands

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Checkpoints of one training pipeline take turns writing one response.",
)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"langgraph-switch {__version__}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    pass


@app.command()
@with_option_groups
def run(
    switch: SwitchOptions,
    jobs: JobOptions,
    display: ScreenOptions,
    query: Annotated[
        str | None, typer.Argument(help="The question; default: a prompt, or stdin.")
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="One JSON object: text, finish_reason, seed, usage, trace.",
            rich_help_panel=DISPLAY,
        ),
    ] = False,
    show_config: Annotated[
        bool,
        typer.Option(
            "--show-config",
            help="Print the switch.json in effect and exit.",
            rich_help_panel=WHO,
        ),
    ] = False,
    plan: Annotated[
        bool,
        typer.Option(
            "--plan",
            help="Print what would be held in memory and exit; no weights are downloaded.",
            rich_help_panel=WHO,
        ),
    ] = False,
) -> None:
    """Answer a question, or a file of them."""
    screen = Screen(display)
    with reporting(screen):
        import json

        from langgraph_switch.cli.configure import effective_config
        from langgraph_switch.errors import InputError

        config, trusted = effective_config(switch), switch.trust_remote_code or ()
        if show_config:
            typer.echo(json.dumps(config.to_dict(), indent=2, ensure_ascii=False))
            return
        if plan:
            from langgraph_switch.cli.hub import show_plan

            show_plan(config, screen)
            return
        if switch.candidate and switch.switcher is None:
            screen.note("No --switcher: the next speaker is drawn at random.")
        if jobs.input is not None or jobs.output is not None:
            from langgraph_switch.cli.batch import answer_file

            if query is not None:
                raise InputError("A question and --input exclude each other.", hint="give one")
            answer_file(jobs, config, screen, trusted=trusted)
            return
        from langgraph_switch.cli.run import answer_one, read_question

        asked = query if query is not None else read_question()
        answer_one(asked, config, screen, as_json=as_json, trusted=trusted)


@app.command()
@with_option_groups
def demo(
    switch: SwitchOptions,
    display: ScreenOptions,
    count: Annotated[int, typer.Option(min=1, help="Questions to answer.")] = 6,
) -> None:
    """Watch the embedded family answer a few questions."""
    screen = Screen(display, is_show=True)
    with reporting(screen):
        from langgraph_switch.cli.configure import effective_config
        from langgraph_switch.cli.demo import run_demo

        trusted = switch.trust_remote_code or ()
        run_demo(effective_config(switch), screen, count=count, trusted=trusted)


@app.command()
@with_option_groups
def graph(switch: SwitchOptions, display: ScreenOptions) -> None:
    """Print the state machine as a mermaid picture."""
    with reporting(Screen(display)):
        from langgraph_switch.cli.configure import effective_config
        from langgraph_switch.cli.picture import mermaid

        typer.echo(mermaid(effective_config(switch)), nl=False)


@app.command("app")
@with_option_groups
def playground(
    switch: SwitchOptions,
    display: ScreenOptions,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 for other machines too.")
    ] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="Default: the first free one from 7860.")] = None,
) -> None:
    """Open a page: ask, watch who writes what, fork with another speaker."""
    screen = Screen(display)
    with reporting(screen):
        from langgraph_switch.cli.configure import effective_config
        from langgraph_switch.cli.playground import serve

        trusted = switch.trust_remote_code or ()
        serve(effective_config(switch), screen, host=host, port=port, trusted=trusted)


add_learning_commands(app)
add_compress_command(app)
add_hub_commands(app)
add_serve_commands(app)


def main() -> None:
    """Run the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # A terminal that lacks a character shows "?".
    try:
        app()
    except SystemExit as end:
        if end.code == EXIT_INTERRUPTED:  # Do not wait for a segment that nobody wants.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(EXIT_INTERRUPTED)
        raise
