"""What compression costs and saves: scores question by question, bytes as they are held.

Knows nothing of how a family was compressed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from langgraph_switch.compression.family import weight_bytes
from langgraph_switch.config import SwitchConfig
from langgraph_switch.engines.models import SharedModel
from langgraph_switch.engines.transformers_engine import TransformersEngine
from langgraph_switch.offline.responses import respond
from langgraph_switch.offline.statistics import mean_interval, paired_difference
from langgraph_switch.solo import solo
from langgraph_switch.switch import Switch
from langgraph_switch.tasks import Example, Task

WHOLE_SWITCH = "switch"


def memory(before: SwitchConfig, after: SwitchConfig, *, base: str) -> dict[str, Any]:
    """Return measured bytes of the candidates' weights: checkpoints, and base with adapters."""
    whole, compressed = Switch(before), Switch(after)
    one = weight_bytes(_models(whole, [base]))
    three = weight_bytes(_models(whole, before.names))
    shared = weight_bytes(_models(compressed, after.names))
    return {
        "base_bytes": one,
        "checkpoints_bytes": three,
        "compressed_bytes": shared,
        "ratio_to_base": shared / one,
        "ratio_to_checkpoints": shared / three,
    }


def compare(
    before: SwitchConfig,
    after: SwitchConfig,
    task: Task,
    split: str,
    *,
    questions: int | None = None,
    on_step: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Return scores of the switch and of every candidate alone, before and after, paired.

    Args:
        before: The checkpoints.
        after: Base and adapters.
        task: What is asked.
        split: Which questions.
        questions: How many; all by default.
        on_step: Told whose answers are being written.

    Returns:
        By writer and type of question (and `all`): both means with 95 % intervals, and the mean
        of the paired differences with its interval.
    """
    examples = (task if questions is None else task.sample(questions, seed=0)).split(split)
    found: dict[str, Any] = {}
    switches = Switch(before), Switch(after)
    for writer in (WHOLE_SWITCH, *before.names):
        on_step(f"answering {len(examples)} questions: {writer}")
        scores = []
        for switch in switches:
            own = switch if writer == WHOLE_SWITCH else solo(switch, writer)
            scores.append([one.score for one in respond(own, examples, task.score, seed=0)])
        found[writer] = {
            kind: _paired([scores[0][i] for i in where], [scores[1][i] for i in where], names)
            for kind, where, names in _kinds(examples)
        }
    return found


def _kinds(examples: Sequence[Example]) -> list[tuple[str, list[int], list[str]]]:
    kinds: dict[str, list[int]] = {"all": list(range(len(examples)))}
    for index, example in enumerate(examples):
        if "type" in example.meta:
            kinds.setdefault(str(example.meta["type"]), []).append(index)
    return [(kind, where, [_cluster(examples[i]) for i in where]) for kind, where in kinds.items()]


def _cluster(example: Example) -> str:
    return str(example.meta.get("cluster", example.id))


def _paired(
    before: Sequence[float | None], after: Sequence[float | None], clusters: Sequence[str]
) -> Mapping[str, Any]:
    result: dict[str, Any] = {}
    for name, scores in (("before", before), ("after", after)):
        known = [(s, c) for s, c in zip(scores, clusters, strict=True) if s is not None]
        result[name] = asdict(mean_interval([s for s, _ in known], [c for _, c in known]))
    return result | {"difference": asdict(paired_difference(after, before, clusters))}


def _models(switch: Switch, names: Sequence[str]) -> list[SharedModel]:
    engines = [switch.candidates[name].engine for name in names]
    return [one.model for one in engines if isinstance(one, TransformersEngine)]
