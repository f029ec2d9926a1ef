"""`langgraph-switch pull`, `push`, `inspect`: what they print.

Knows nothing of how files are transferred.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard
from rich.table import Table

from langgraph_switch.cli.screen import Screen
from langgraph_switch.config import SwitchConfig
from langgraph_switch.hub.plan import DeviceNeed, MemoryPlan, plan_memory, published_sizes
from langgraph_switch.hub.pull import CARD, pull, switch_in
from langgraph_switch.offline.provenance import METRICS

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_STEP = 1024


def inspect_switch(source: str, revision: str | None, screen: Screen) -> None:
    """Print what a switch consists of; no weights are downloaded.

    Raises:
        ConfigError: It is no switch.
        ModelLoadError: A repo cannot be looked at.
    """
    folder = pull(source, revision=revision, with_weights=False)
    config = switch_in(folder, source)
    is_here = Path(source).expanduser().is_dir()
    show_plan(config, screen, {} if is_here else published_sizes(source, folder))
    segment = config.segment
    screen.out.print(
        f"Segments of {segment.max_tokens} tokens, responses of up to {config.max_tokens}; "
        f"{config.anchor_name} opens and closes."
    )
    _show_card(folder, screen)
    metrics = folder / METRICS
    if metrics.is_file():
        trained = json.loads(metrics.read_text(encoding="utf-8"))["provenance"]
        completers = ", ".join(trained["completers"])
        tasks = dict.fromkeys(str(one["task"].get("name")) for one in trained["rollouts"])
        screen.out.print(f"Trained on {', '.join(tasks)}; rollouts completed by {completers}.")


def _show_card(folder: Path, screen: Screen) -> None:
    """Print the licence and the scores that a card tells."""
    if not (folder / CARD).is_file():
        return
    data = ModelCard.load(folder / CARD, ignore_metadata_errors=True).data
    screen.out.print(f"Licence: {data.get('license') or 'not said'}.")
    for one in data.get("eval_results") or ():
        screen.out.print(_score(one))


def _score(one: EvalResult) -> str:
    """Return one score of a card, with its interval where the card has it."""
    split = f", split {one.dataset_split}" if one.dataset_split else ""
    what = f"{one.dataset_name}{split}: {one.metric_name or one.metric_type}"
    known = one.metric_args or {}
    if not {"low", "high"} <= known.keys():
        return f"{what} {one.metric_value:.4g}."
    number = f", n = {known['n']}" if "n" in known else ""
    low, high = 100 * known["low"], 100 * known["high"]
    return f"{what} {100 * one.metric_value:.1f} % [{low:.1f}, {high:.1f}]{number}."


def show_plan(
    config: SwitchConfig, screen: Screen, sizes: Mapping[Path, int] | None = None
) -> MemoryPlan:
    """Print what will be held where."""
    plan = plan_memory(config, sizes=sizes)
    head = ("weights", "revision", "used by", "device", "download", "in memory", "KV / token")
    table = Table(*head, "licence", box=None, pad_edge=False, header_style="dim")
    for one in plan.weights:
        table.add_row(
            _short(one.model),
            (one.revision or "main")[:8],
            ", ".join(one.users),
            f"{one.device}, idle on cpu" if one.is_offloaded else one.device,
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
    for need in plan.devices():
        screen.out.print(_fit(need))
    return plan


def _fit(need: DeviceNeed) -> str:
    """Return a sentence on whether a device has room."""
    wanted = f"{need.device}: {size(need.weight_bytes)} + {size(need.kv_bytes)} needed"
    if need.free_bytes is None:
        return f"{wanted}; how much is free is not known."
    free = f"{wanted}, {size(need.free_bytes)} free"
    if need.fits:
        return f"{free}: fits."
    return (
        f"{free}: DOES NOT FIT. Use a smaller dtype, another device, device_map, or hold idle "
        "models on the CPU (--offload cpu)."
    )


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
