"""The evaluation of runs/switcher as a compiled graph; the report goes to runs/eval."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from langgraph_switch import Switch, SwitchConfig
from langgraph_switch.offline import EvaluationJob, EvaluationSettings, build_evaluation_graph
from langgraph_switch.tasks import load_task


def make_job() -> EvaluationJob:
    """Return the job; called when the graph runs, so that opening it loads nothing."""
    return EvaluationJob(
        switch=Switch(SwitchConfig.load("runs/switcher")),
        task=load_task("tiny/compose"),
        out=Path("runs/eval"),
        settings=EvaluationSettings(questions=100),
    )


def make_graph() -> Any:
    """Return next_batch -> respond -> analyse -> report."""
    return build_evaluation_graph(make_job)
