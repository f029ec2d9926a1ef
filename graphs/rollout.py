"""Rollouts on the embedded family as a compiled graph; rows go to runs/rollouts."""

from __future__ import annotations

from typing import Any

from langgraph_switch.families import family_config
from langgraph_switch.offline import RolloutJob, build_rollout_graph, prepare_rollouts
from langgraph_switch.tasks import load_task

QUERIES = 100


def make_job() -> RolloutJob:
    """Return the job; called when the graph runs, so that opening it loads nothing."""
    task = load_task("tiny/compose")
    return prepare_rollouts(family_config("tiny"), task, out="runs/rollouts", queries=QUERIES)


def make_graph() -> Any:
    """Return next_chunk -> prefix -> branch -> complete -> store."""
    return build_rollout_graph(make_job)
