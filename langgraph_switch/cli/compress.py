"""`langgraph-switch compress`: adapters, their `switch.json`, and what they cost and save.

Knows nothing of how layers are factorised.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from pydantic import ValidationError
from rich.table import Table

from langgraph_switch.cli.hub import size
from langgraph_switch.cli.screen import Screen
from langgraph_switch.compression.adapter import LayerReport
from langgraph_switch.compression.family import (
    REPORT,
    CompressionSettings,
    compress_family,
    write_report,
)
from langgraph_switch.compression.measure import compare, memory
from langgraph_switch.config import SwitchConfig
from langgraph_switch.errors import ConfigError
from langgraph_switch.tasks import Task


@dataclass(frozen=True, slots=True)
class Measuring:
    """What scores are measured on."""

    task: Task | None
    split: str
    questions: int | None


def compress_to(
    config: SwitchConfig,
    settings: Mapping[str, Any],
    measuring: Measuring,
    out: Path,
    screen: Screen,
) -> None:
    """Compress a family, measure it, print and write the report.

    Raises:
        SwitchError: The checkpoints cannot be expressed so, or a question does not fit.
    """
    chosen = _settings(settings, config)
    if measuring.task is not None:
        measuring.task.split(measuring.split)  # Better now than after the work.
    done = compress_family(config, chosen, out, task=measuring.task, on_step=screen.note)
    report = json.loads((out / REPORT).read_text(encoding="utf-8"))
    report["memory"] = memory(config, done.config, base=chosen.base)
    screen.out.print(_layers({name: one.layers for name, one in done.adapters.items()}))
    screen.out.print(_memory_line(report["memory"], len(config.names), chosen.base))
    if measuring.task is not None:
        report["task"] = measuring.task.record(measuring.split)
        report["scores"] = compare(
            config,
            done.config,
            measuring.task,
            measuring.split,
            questions=measuring.questions,
            on_step=screen.note,
        )
        screen.out.print(_scores(report["scores"]))
    write_report(out, report)
    screen.note(f"Adapters, switch.json and {REPORT}: {out}")


def _settings(settings: Mapping[str, Any], config: SwitchConfig) -> CompressionSettings:
    try:
        return CompressionSettings(**{**settings, "base": settings["base"] or config.anchor_name})
    except ValidationError as err:
        first = err.errors()[0]
        name = str(first["loc"][0]).replace("_", "-")
        raise ConfigError(
            f"--{name}: {first['msg']}.", hint="write a part of 1, such as --error 0.2"
        ) from err


def _layers(layers: Mapping[str, list[LayerReport]]) -> Table:
    table = Table(
        "adapter", "layers", "rank: least", "median", "most", "largest error", "kept whole",
        "parameters", box=None, pad_edge=False, header_style="dim",
    )  # fmt: skip
    for name, found in layers.items():
        ranks = [one.rank for one in found if one.rank is not None]
        table.add_row(
            name,
            str(len(found)),
            str(min(ranks)),
            f"{median(ranks):.0f}",
            str(max(ranks)),
            f"{max(one.error for one in found):.3f}",
            str(sum(one.rank is None for one in found)),
            f"{sum(one.num_parameters for one in found):,}",
        )
    return table


def _memory_line(found: Mapping[str, Any], number: int, base: str) -> str:
    return (
        f"{number} candidates in {size(found['compressed_bytes'])} instead of "
        f"{size(found['checkpoints_bytes'])}: {found['ratio_to_base']:.2f} x the memory of "
        f"{base} alone."
    )


def _scores(scores: Mapping[str, Any]) -> Table:
    table = Table(
        "exact", "questions", "n", "before", "after", "difference",
        box=None, pad_edge=False, header_style="dim",
    )  # fmt: skip
    table.columns[0].header = ""
    for writer, kinds in scores.items():
        for kind, one in kinds.items():
            table.add_row(
                writer if kind == "all" else "",
                kind.replace("_", " "),
                str(one["difference"]["n"]),
                *(_interval(one[key]) for key in ("before", "after", "difference")),
            )
    return table


def _interval(one: Mapping[str, float]) -> str:
    return f"{100 * one['mean']:.1f} [{100 * one['low']:.1f}, {100 * one['high']:.1f}]"
