"""`langgraph-switch pull`, `push`, `inspect`: what they print.

Knows nothing of how files are transferred.
"""

from __future__ import annotations

import json
from pathlib import Path

from rich.table import Table

from langgraph_switch.cli.screen import Screen
from langgraph_switch.config import SwitchConfig
from langgraph_switch.hub.plan import MemoryPlan, plan_memory
from langgraph_switch.hub.pull import pull, pull_switch

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_STEP = 1024


def inspect_switch(source: str, revision: str | None, screen: Screen) -> None:
    """Print what a switch consists of; no weights are downloaded but the switcher's own repo.

    Raises:
        ConfigError: It is no switch.
        ModelLoadError: A repo cannot be looked at.
    """
    config = pull_switch(source, revision=revision)
    show_plan(config, screen)
    segment = config.segment
    screen.out.print(
        f"Segments of {segment.max_tokens} tokens, responses of up to {config.max_tokens}; "
        f"{config.anchor_name} opens and closes."
    )
    folder = Path(source) if Path(source).is_dir() else pull(source, revision=revision)
    metrics = folder / "metrics.json"
    if metrics.is_file():
        found = json.loads(metrics.read_text(encoding="utf-8"))
        accuracy = found["metrics"]["accuracy"]
        completers = ", ".join(found["provenance"]["completers"])
        tasks = {one["task"].get("name") for one in found["provenance"]["rollouts"]}
        screen.out.print(
            f"Trained on {', '.join(map(str, tasks))} (rollouts completed by {completers}); "
            f"accuracy on held-out rows {100 * accuracy['mean']:.1f} % "
            f"[{100 * accuracy['low']:.1f}, {100 * accuracy['high']:.1f}]."
        )


def show_plan(config: SwitchConfig, screen: Screen) -> MemoryPlan:
    """Print what will be held where."""
    plan = plan_memory(config)
    head = ("weights", "revision", "used by", "device", "download", "in memory", "KV / token")
    table = Table(*head, "licence", box=None, pad_edge=False, header_style="dim")
    for one in plan.weights:
        table.add_row(
            _short(one.model),
            (one.revision or "main")[:8],
            ", ".join(one.users),
            one.device,
            size(one.file_bytes),
            size(one.weight_bytes),
            size(one.kv_bytes_per_token),
            one.license or "",
        )
        for adapter, num_bytes in one.adapters.items():
            table.add_row(f"  + {_short(adapter)}", "", "", "", size(num_bytes), size(num_bytes))
    screen.out.print(table)
    screen.out.print(
        f"{size(plan.weight_bytes)} of weights in {len(plan.weights)} copies, "
        f"{size(plan.kv_bytes_per_trace)} of keys and values for a response of full length."
    )
    return plan


def size(num_bytes: int) -> str:
    """Return a size for people."""
    value = float(num_bytes)
    for unit in _UNITS[:-1]:
        if value < _STEP:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= _STEP
    return f"{value:.1f} {_UNITS[-1]}"


def _short(model: str) -> str:
    return Path(model).name if Path(model).is_dir() else model
