"""The report as one page: pictures inside, no link to anything else.

Knows nothing of how figures are computed or drawn.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader

from langgraph_switch.palette import color_of
from langgraph_switch.report.table import TRAINED, interval, p_value, verdict

_CAPTIONS = {
    "scores": "Every condition answers the same questions with the same seeds and token budget.",
    "positions": "Who speaks where: share of the trained switch's tokens by position.",
    "transitions": "Who follows whom, in percent of the segments of the one before.",
    "sequences": (
        "Sequences of two and three speakers: how random switching scores with one, less without "
        "it (the lot decides, so it is the sequence's doing). In brackets: share of the trained "
        "switch's responses that contain it."
    ),
    "leave-one-out": "How good each checkpoint is alone, next to what the switch loses without it.",
    "solved-by-none": (
        "Questions that every checkpoint alone failed: solved by the switch, next to what another "
        "sample of the checkpoints solves by chance."
    ),
}


def render_page(evaluation: Mapping[str, Any], pictures: Mapping[str, Path]) -> str:
    """Return the page.

    Args:
        evaluation: What `evaluation.json` holds.
        pictures: PNG files by name.
    """
    environment = Environment(loader=PackageLoader("langgraph_switch.report", "."), autoescape=True)
    environment.filters |= {"interval": interval, "p_value": p_value}
    analysis = evaluation["analysis"]
    return environment.get_template("report.html.jinja").render(
        verdict=verdict(analysis),
        about=_flat(evaluation["about"]),
        analysis=analysis,
        trained=TRAINED,
        types=list(next(iter(analysis["conditions"].values()))["by_type"]),
        pictures=[
            {"name": name, "caption": _CAPTIONS[name], "data": _data_url(path)}
            for name, path in pictures.items()
        ],
        colors=color_of(analysis["names"]),
    )


def _data_url(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def _flat(about: Mapping[str, Any], path: str = "") -> dict[str, str]:
    """Return nested facts as one line each."""
    found: dict[str, str] = {}
    for key, value in about.items():
        name = f"{path} {key}".strip()
        if isinstance(value, Mapping):
            found |= _flat(value, name)
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for number, one in enumerate(value, start=1):
                found |= _flat(one, f"{name} {number}")
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            found[name.replace("_", " ")] = shown
    return found
