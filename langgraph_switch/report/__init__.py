"""Reports of an evaluation: a table, pictures, and one page that needs nothing else.

Everything is made from `evaluation.json`. Importing this package loads no plotting library.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from langgraph_switch.errors import MissingExtraError
from langgraph_switch.report.table import score_table, verdict

__all__ = ["score_table", "verdict", "write_report"]


def write_report(folder: str | Path, evaluation: dict[str, Any]) -> list[Path]:
    """Write `report.html` and its pictures, and return their paths.

    Args:
        folder: Where to.
        evaluation: What `evaluation.json` holds.

    Raises:
        MissingExtraError: There is no plotting library.
    """
    try:
        from langgraph_switch.report.figures import draw_figures  # noqa: PLC0415 - an extra
    except ImportError as err:
        raise MissingExtraError("A report with pictures", extra="train") from err
    from langgraph_switch.report.html import render_page  # noqa: PLC0415 - after the check

    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    pictures = {}
    for name, figure in draw_figures(evaluation["analysis"]).items():
        pictures[name] = root / f"{name}.png"
        figure.savefig(pictures[name], dpi=120, facecolor="white", bbox_inches="tight")
    page = root / "report.html"
    page.write_text(render_page(evaluation, pictures), encoding="utf-8")
    return [page, *pictures.values()]
