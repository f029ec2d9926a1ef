"""Learning to switch, offline: rollouts, training, evaluation and distillation as graphs.

Each is a function that runs to its end and resumes when called again, and a LangGraph graph.
Importing this package is cheap; what a name needs is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langgraph_switch.offline.answering import EvaluationSettings
    from langgraph_switch.offline.collect import Rollouts, collect_rollouts, prepare_rollouts
    from langgraph_switch.offline.distillation import (
        DistillationJob,
        DistillSettings,
        build_distillation_graph,
        distill_switch,
    )
    from langgraph_switch.offline.evaluation import (
        EvaluationJob,
        build_evaluation_graph,
        evaluate_switch,
    )
    from langgraph_switch.offline.head_settings import HeadSettings
    from langgraph_switch.offline.ray_workers import RayWorkers
    from langgraph_switch.offline.responses import Response, respond
    from langgraph_switch.offline.rollout import RolloutJob, build_rollout_graph
    from langgraph_switch.offline.rounds import prepare_rounds, round_folders
    from langgraph_switch.offline.settings import RolloutSettings
    from langgraph_switch.offline.sft_settings import SftSettings
    from langgraph_switch.offline.switcher_artifact import TrainedSwitcher
    from langgraph_switch.offline.training import (
        TrainingJob,
        build_training_graph,
        train_switcher,
    )
    from langgraph_switch.offline.training_rows import RowSettings
    from langgraph_switch.offline.workers import Workers

_HOMES = {
    "DistillSettings": "distillation",
    "DistillationJob": "distillation",
    "EvaluationJob": "evaluation",
    "HeadSettings": "head_settings",
    "EvaluationSettings": "answering",
    "RayWorkers": "ray_workers",
    "Response": "responses",
    "RolloutJob": "rollout",
    "RolloutSettings": "settings",
    "Rollouts": "collect",
    "RowSettings": "training_rows",
    "SftSettings": "sft_settings",
    "TrainedSwitcher": "switcher_artifact",
    "TrainingJob": "training",
    "Workers": "workers",
    "build_distillation_graph": "distillation",
    "build_evaluation_graph": "evaluation",
    "build_rollout_graph": "rollout",
    "build_training_graph": "training",
    "collect_rollouts": "collect",
    "distill_switch": "distillation",
    "evaluate_switch": "evaluation",
    "prepare_rollouts": "collect",
    "prepare_rounds": "rounds",
    "respond": "responses",
    "round_folders": "rounds",
    "train_switcher": "training",
}

__all__ = [
    "DistillSettings",
    "DistillationJob",
    "EvaluationJob",
    "EvaluationSettings",
    "HeadSettings",
    "RayWorkers",
    "Response",
    "RolloutJob",
    "RolloutSettings",
    "Rollouts",
    "RowSettings",
    "SftSettings",
    "TrainedSwitcher",
    "TrainingJob",
    "Workers",
    "build_distillation_graph",
    "build_evaluation_graph",
    "build_rollout_graph",
    "build_training_graph",
    "collect_rollouts",
    "distill_switch",
    "evaluate_switch",
    "prepare_rollouts",
    "prepare_rounds",
    "respond",
    "round_folders",
    "train_switcher",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
