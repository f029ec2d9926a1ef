"""An evaluation on a terminal: the verdict, and every condition's score.

Knows nothing of how figures are computed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from langgraph_switch.report.table import TRAINED, interval


def scores(analysis: Mapping[str, Any]) -> Table:
    """Return every condition's score in percent, with its interval, by type of question."""
    conditions = analysis["conditions"]
    first = next(iter(conditions.values()))
    sizes = {"all": first["score"], **first["by_type"]}
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("", no_wrap=True)
    for kind, one in sizes.items():
        table.add_column(f"{kind.replace('_', ' ')} (n = {one['n']})", no_wrap=True)
    table.add_column("s/answer", justify="right")
    for name, one in conditions.items():
        cells = [interval(one["score"]), *map(interval, one["by_type"].values())]
        style = "bold" if name == TRAINED else None
        table.add_row(name, *cells, f"{one['seconds']:.3f}", style=style)
    return table
