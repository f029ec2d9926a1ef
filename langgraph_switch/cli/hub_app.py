"""The commands for the Hub: what they take. What they do is imported when they run."""

# ruff: noqa: PLC0415 - imports inside commands are the point of this module

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from langgraph_switch.cli.options import ScreenOptions, with_option_groups
from langgraph_switch.cli.screen import Screen, reporting

RepoType = Literal["model", "dataset"]

_SOURCE = typer.Argument(help="user/name on the Hub, or a local folder.")
_REVISION = typer.Option(help="Branch, tag or commit; default: the main branch.")


def add_hub_commands(app: typer.Typer) -> None:
    """Give a command line the commands pull, push and inspect."""
    for command in (pull, push, inspect):
        app.command()(with_option_groups(command))


def pull(
    source: Annotated[str, _SOURCE],
    display: ScreenOptions,
    revision: Annotated[str | None, _REVISION] = None,
    repo_type: Annotated[
        RepoType, typer.Option("--type", help="dataset: a repo of rollouts.")
    ] = "model",
) -> None:
    """Fetch a switch, rollouts or a model; print the folder where it lies."""
    screen = Screen(display)
    with reporting(screen):
        from langgraph_switch.hub.pull import pull as fetch

        typer.echo(fetch(source, revision=revision, repo_type=repo_type))


def push(
    folder: Annotated[Path, typer.Argument(help="What train, rollout or distill made.")],
    repo: Annotated[str, typer.Argument(help="user/name on the Hub; made if it is not there.")],
    display: ScreenOptions,
    private: Annotated[bool, typer.Option("--private", help="Of a new repo.")] = False,
    with_models: Annotated[
        bool, typer.Option("--with-models", help="Copy candidates that are local folders along.")
    ] = False,
    license_name: Annotated[
        str | None, typer.Option("--license", help="Default: the candidates', if they agree.")
    ] = None,
    repo_type: Annotated[
        RepoType | None,
        typer.Option("--type", help="Refuse what is of another type; default: what it is."),
    ] = None,
    evaluation: Annotated[
        Path | None,
        typer.Option(help="What evaluate made of this switch: its scores get into the card."),
    ] = None,
) -> None:
    """Push a trained switch, rollouts or a distilled model to the Hub."""
    screen = Screen(display)
    with reporting(screen):
        from langgraph_switch.hub.push import push as send

        pushed = send(
            folder,
            repo,
            private=private,
            with_models=with_models,
            license=license_name,
            repo_type=repo_type,
            evaluation=evaluation,
        )
        screen.note(f"Pushed to {pushed.url}")
        typer.echo(pushed.commit)


def inspect(
    source: Annotated[str, _SOURCE],
    display: ScreenOptions,
    revision: Annotated[str | None, _REVISION] = None,
) -> None:
    """Show candidates, sizes, memory and scores of a switch; no weights are downloaded."""
    screen = Screen(display)
    with reporting(screen):
        from langgraph_switch.cli.hub import inspect_switch

        inspect_switch(source, revision, screen)
