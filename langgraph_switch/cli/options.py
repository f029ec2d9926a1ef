"""The command line's options, in groups that commands share.

A command takes a whole group as one parameter; `with_option_groups` spells its options out for
typer. Knows nothing of what options do.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from langgraph_switch.config import DType, Offload

WHO, WHAT, JOBS, DISPLAY = "Who takes turns", "What is written", "Many questions", "Display"


@dataclass(frozen=True, kw_only=True)
class SwitchOptions:
    """Which switch answers, and what is changed in its configuration."""

    family: Annotated[
        str | None,
        typer.Option(
            "--family",
            "--preset",
            help="A family of checkpoints by name: tiny (the embedded one, the default), "
            "tulu3-8b (the paper's), qwen2.5-7b, olmo2-1b, smollm2-135m, smollm2-1.7b.",
            rich_help_panel=WHO,
        ),
    ] = None
    config: Annotated[
        str | None,
        typer.Option(
            help="A switch.json, a folder that holds one, or a published switch by its name on "
            "the Hub (user/name). Default: the embedded family.",
            rich_help_panel=WHO,
        ),
    ] = None
    revision: Annotated[
        str | None,
        typer.Option(
            help="Branch, tag or commit of a published switch; default: the main branch.",
            rich_help_panel=WHO,
        ),
    ] = None
    candidate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=MODEL",
            help="A checkpoint by path or Hub repo; give it twice or more, in training order. "
            "The names pretrained, finetuned and aligned say the role.",
            rich_help_panel=WHO,
        ),
    ] = None
    switcher: Annotated[
        str | None,
        typer.Option(
            help="random, the name of a candidate (its weights decide), a trained switcher's "
            "folder, a LoRA adapter for the anchor, or a model by path or Hub repo.",
            rich_help_panel=WHO,
        ),
    ] = None
    device: Annotated[
        str | None,
        typer.Option(help="auto, cpu, cuda, cuda:1, mps.", rich_help_panel=WHO),
    ] = None
    dtype: Annotated[
        DType | None, typer.Option(help="Precision of the weights.", rich_help_panel=WHO)
    ] = None
    device_map: Annotated[
        str | None,
        typer.Option(
            help="auto, balanced or sequential: accelerate spreads every model over devices.",
            rich_help_panel=WHO,
        ),
    ] = None
    offload: Annotated[
        Offload | None,
        typer.Option(help="Where models are held while others write.", rich_help_panel=WHO),
    ] = None
    max_tokens: Annotated[
        int | None, typer.Option(help="Most tokens of a response.", rich_help_panel=WHAT)
    ] = None
    segment: Annotated[
        int | None, typer.Option(help="Tokens of a segment.", rich_help_panel=WHAT)
    ] = None
    seed: Annotated[
        int | None, typer.Option(help="Seed of every random draw.", rich_help_panel=WHAT)
    ] = None
    temperature: Annotated[
        float | None,
        typer.Option(help="Of every candidate; 0 is greedy.", rich_help_panel=WHAT),
    ] = None
    stop: Annotated[
        list[str] | None,
        typer.Option(help="A string that ends the response; repeatable.", rich_help_panel=WHAT),
    ] = None
    batch_size: Annotated[
        int | None,
        typer.Option(help="Questions in progress at the same time.", rich_help_panel=JOBS),
    ] = None
    trust_remote_code: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A candidate whose repo's own code may be run; read it first. Repeatable.",
            rich_help_panel=WHO,
        ),
    ] = None
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY.PATH=JSON",
            help="Any field of switch.json, e.g. candidates.aligned.eos=mask; repeatable.",
            rich_help_panel=WHO,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """Many questions from a file."""

    input: Annotated[
        Path | None,
        typer.Option(
            help='JSONL: per line {"query": "..."} (or input, messages; perhaps id, seed, '
            "max_tokens, stop, temperature) or a string.",
            rich_help_panel=JOBS,
        ),
    ] = None
    output: Annotated[
        Path | None,
        typer.Option(
            help="JSONL of answers, in the order in which they end; an interrupted run is "
            "continued by the same command. Default: stdout.",
            rich_help_panel=JOBS,
        ),
    ] = None
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Answer everything again.", rich_help_panel=JOBS),
    ] = False


@dataclass(frozen=True, kw_only=True)
class ScreenOptions:
    """How things are shown."""

    no_color: Annotated[
        bool, typer.Option("--no-color", help="No colours.", rich_help_panel=DISPLAY)
    ] = False
    quiet: Annotated[
        bool,
        typer.Option("--quiet", "-q", help="The answer and errors only.", rich_help_panel=DISPLAY),
    ] = False
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks.", rich_help_panel=DISPLAY)
    ] = False


def with_option_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command with each dataclass parameter spelled out as its fields."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}

    def run(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{f.name: values.pop(f.name) for f in fields(group)})
        command(**values)

    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name not in groups:
            parameters.append(_option(name, hints[name], parameter.default))
            continue
        group_hints = get_type_hints(groups[name], include_extras=True)
        parameters += [
            _option(f.name, group_hints[f.name], f.default) for f in fields(groups[name])
        ]
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    vars(run)["__signature__"] = inspect.Signature(parameters)
    return run


def _option(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )
