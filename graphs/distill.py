"""The distillation of runs/switcher as a compiled graph; the model goes to runs/distilled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from langgraph_switch import Switch, SwitchConfig
from langgraph_switch.offline import DistillationJob, DistillSettings, build_distillation_graph
from langgraph_switch.tasks import load_task


def make_job() -> DistillationJob:
    """Return the job; called when the graph runs, so that opening it loads nothing."""
    return DistillationJob(
        switch=Switch(SwitchConfig.load("runs/switcher")),
        task=load_task("tiny/compose"),
        out=Path("runs/distilled"),
        settings=DistillSettings(queries=500, questions=200),
    )


def make_graph() -> Any:
    """Return next_batch -> respond -> train -> measure -> save."""
    return build_distillation_graph(make_job)
