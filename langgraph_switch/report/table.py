"""An evaluation in words and as a Markdown table.

Knows nothing of files or pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langgraph_switch.report.markdown import markdown_table

TRAINED = "trained switcher"


def score_table(analysis: Mapping[str, Any]) -> str:
    """Return every condition's score with its interval, by type of question, as Markdown."""
    conditions = analysis["conditions"]
    types = _types(conditions)
    head = ["", "all", *(kind.replace("_", " ") for kind in types), "against the switch", "p"]
    if not analysis["differences"]:
        head = head[:-2]
    rows = []
    for name, one in conditions.items():
        cells = [interval(one["score"]), *(interval(one["by_type"][kind]) for kind in types)]
        rows.append([f"**{name}**" if name == TRAINED else name, *cells, *_against(analysis, name)])
    sizes = next(iter(conditions.values()))
    counts = [sizes["score"]["n"], *(sizes["by_type"][kind]["n"] for kind in types)]
    head[1 : 1 + len(counts)] = [
        f"{name} (n = {n})" for name, n in zip(head[1:], counts, strict=False)
    ]
    return markdown_table(head, rows)


def verdict(analysis: Mapping[str, Any]) -> str:
    """Return one sentence: does switching beat the best single checkpoint, and by how much?"""
    best = analysis["best_single"]
    found = analysis["differences"].get(best)
    if found is None:
        return "No trained switcher was compared."
    mean, low, high = (100 * found[key] for key in ("mean", "low", "high"))
    by = f"{mean:+.1f} points [{low:+.1f}, {high:+.1f}]"
    against = f"the best single checkpoint ({best.removesuffix(' alone')})"
    if found["low"] > 0:
        return f"The trained switcher beats {against}: {by}, p = {p_value(found)}."
    if found["high"] < 0:
        return f"The trained switcher is worse than {against}: {by}, p = {p_value(found)}."
    return f"No difference to {against} is shown: {by}, p = {p_value(found)}."


def interval(one: Mapping[str, Any]) -> str:
    """Return a mean score in percent with its interval."""
    if not one.get("n"):
        return "-"
    return f"{100 * one['mean']:.1f} [{100 * one['low']:.1f}, {100 * one['high']:.1f}]"


def p_value(one: Mapping[str, Any]) -> str:
    """Return a p-value as far as its resamples can tell."""
    return "< 0.001" if one["p_value"] < 0.001 else f"{one['p_value']:.3f}"  # noqa: PLR2004


def _types(conditions: Mapping[str, Any]) -> list[str]:
    return list(next(iter(conditions.values()))["by_type"])


def _against(analysis: Mapping[str, Any], name: str) -> list[str]:
    if not analysis["differences"]:
        return []
    found = analysis["differences"].get(name)
    if found is None or not found["n"]:
        return ["", ""]
    mean, low, high = (-100 * found[key] for key in ("mean", "high", "low"))  # Turned round.
    return [f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]", p_value(found)]
