"""Training a switcher on runs/rollouts as a compiled graph; the switch goes to runs/switcher."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from langgraph_switch.offline import TrainingJob, build_training_graph


def make_graph() -> Any:
    """Return load -> split -> train -> measure -> save."""
    return build_training_graph(TrainingJob(rollouts=("runs/rollouts",), out=Path("runs/switcher")))
