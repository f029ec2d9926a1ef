"""The pictures of an evaluation, one function each: parts of its JSON in, a figure out.

Colours are Okabe and Ito's, which colour-blind people tell apart; candidates keep theirs in every
picture. Knows nothing of files or pages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from langgraph_switch.palette import PALETTE, color_of

_GREY, _DARK = "#8A8A8A", "#222222"
_WIDTH = 7.0
_MOST_SEQUENCES = 8


def draw_figures(analysis: Mapping[str, Any]) -> dict[str, Figure]:
    """Return every picture that the figures allow, by file name."""
    names = analysis["names"]
    found = {"scores": draw_scores(analysis["conditions"])}
    if "positions" not in analysis:
        return found
    found["positions"] = draw_positions(analysis["positions"], names)
    found["transitions"] = draw_transitions(analysis["transitions"], names)
    if any(analysis["sequences"].values()):
        found["sequences"] = draw_sequences(analysis["sequences"])
    if analysis["leave_one_out"]:
        found["leave-one-out"] = draw_leave_one_out(analysis["leave_one_out"], names)
    if sampled := (analysis["solved_by_none"] or {}).get("sampled"):
        found["solved-by-none"] = draw_solved_by_none(sampled)
    return found


def draw_scores(conditions: Mapping[str, Any]) -> Figure:
    """Draw every condition's mean score with its interval."""
    figure, axes = _figure(0.34 * len(conditions) + 1.1)
    for row, (name, one) in enumerate(conditions.items()):
        if one["score"]["n"]:
            _whisker(axes, row, one["score"], color=_condition_color(name), scale=100)
    _label_rows(axes, list(conditions))
    _, highest = axes.get_xlim()
    axes.set_xlim(-1.5, max(highest, 1))
    axes.set_xlabel("score, % (95 % interval)")
    return figure


def draw_positions(shares: Sequence[Sequence[float]], names: Sequence[str]) -> Figure:
    """Draw who writes which part of the response."""
    figure, axes = _figure(3.0)
    places = np.arange(len(shares))
    below = np.zeros(len(shares))
    for i, (name, color) in enumerate(color_of(names).items()):
        share = 100 * np.array([one[i] for one in shares])
        axes.bar(places, share, bottom=below, width=0.94, color=color, label=name)
        below += share
    axes.set_xticks(places, [f"{100 * (i + 1) // len(shares)}" for i in places])
    axes.set_xlabel("position in the response, %")
    axes.set_ylabel("tokens, %")
    axes.set_ylim(0, 100)
    axes.legend(ncols=len(names), loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    return figure


def draw_transitions(counts: Mapping[str, Mapping[str, int]], names: Sequence[str]) -> Figure:
    """Draw how often each speaker follows each, in percent of the one before."""
    columns = [*names, "end"]
    rows = list(counts)
    table = np.array([[counts[row][column] for column in columns] for row in rows], dtype=float)
    shares = 100 * table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    figure, axes = _figure(0.55 * len(rows) + 1.3, width=0.9 * len(columns) + 2.4)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    for (i, j), share in np.ndenumerate(shares):
        shade = "white" if share > 60 else _DARK  # noqa: PLR2004 - readable on its ground
        axes.text(j, i, f"{share:.0f} %", ha="center", va="center", color=shade)
    axes.set_xticks(range(len(columns)), columns)
    labels = [f"{row} ({sum(counts[row].values())})" for row in rows]
    axes.set_yticks(range(len(rows)), labels)
    axes.set_xlabel("writes next")
    axes.set_ylabel("wrote last (times)")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return figure


def draw_sequences(sequences: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Draw the treatment effect of the trained switcher's most frequent sequences (figure 5)."""
    shown = [one for found in sequences.values() for one in _with_effect(found)]
    figure, axes = _figure(0.34 * len(shown) + 1.1)
    for row, one in enumerate(shown):
        point = {"mean": one["effect"], "low": one["low"], "high": one["high"]}
        _whisker(axes, row, point, color=_sign_color(one), scale=100)
    labels = [
        f"{' > '.join(one['sequence'])}  ({100 * one['trained_share']:.0f} %)" for one in shown
    ]
    _label_rows(axes, labels)
    axes.axvline(0, color=_GREY, linewidth=0.8, zorder=0)
    axes.set_xlabel("score with the sequence less without it, points")
    return figure


def draw_leave_one_out(found: Mapping[str, Any], names: Sequence[str]) -> Figure:
    """Draw how good each candidate is alone next to what it adds (paper, figure 4)."""
    figure = Figure(figsize=(_WIDTH, 0.42 * len(found) + 1.1), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    colors = color_of(names)
    for row, (name, one) in enumerate(found.items()):
        _whisker(left, row, one["alone"], color=colors[name], scale=100)
        _whisker(right, row, one["adds"], color=colors[name], scale=100)
    for axes in (left, right):
        _style(axes)
    _label_rows(left, list(found))
    right.tick_params(left=False)
    right.axvline(0, color=_GREY, linewidth=0.8, zorder=0)
    left.set_xlim(left=-1.5)
    left.set_xlabel("score alone, %")
    right.set_xlabel("lost without it, points")
    return figure


def draw_solved_by_none(found: Mapping[str, Any]) -> Figure:
    """Draw what of all singles' failures the switch solves, next to another try of the singles."""
    rows = {"the switch": "switch"} | {
        one: one for one in ("best single again", "any single again")
    }
    figure, axes = _figure(0.34 * len(rows) + 1.1)
    for row, (label, key) in enumerate(rows.items()):
        if found[key]:
            color = PALETTE[-1] if label == "the switch" else _GREY
            _whisker(axes, row, found[key], color=color, scale=100)
    _label_rows(axes, list(rows))
    axes.set_xlim(left=-1.5)
    axes.set_xlabel(f"solved of {found['failed']} questions that every single failed, %")
    return figure


def _figure(height: float, *, width: float = _WIDTH) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    _style(axes)
    return figure, axes


def _style(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)


def _whisker(axes: Axes, row: int, one: Mapping[str, float], *, color: str, scale: float) -> None:
    low, mean, high = (scale * one[key] for key in ("low", "mean", "high"))
    axes.plot([low, high], [row, row], color=color, linewidth=2, solid_capstyle="round")
    axes.plot([mean], [row], "o", color=color, markersize=6)


def _label_rows(axes: Axes, labels: Sequence[str]) -> None:
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.grid(axis="x", color="#E5E5E5", linewidth=0.8)
    axes.tick_params(axis="y", length=0)


def _condition_color(name: str) -> str:
    if name == "trained switcher":
        return PALETTE[-1]
    return _GREY if name.startswith("trained without") else _DARK


def _sign_color(one: Mapping[str, Any]) -> str:
    if one["low"] > 0:
        return PALETTE[2]
    return PALETTE[4] if one["high"] < 0 else _GREY


def _with_effect(found: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    known = [one for one in found if one["effect"] is not None]
    return sorted(known, key=lambda one: -one["trained_share"])[:_MOST_SEQUENCES]
