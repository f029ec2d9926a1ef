"""The card of a published switch: what it is made of, how it was trained, what it scored.

Every figure is read from a report: `metrics.json` of the training, `evaluation.json` of an
evaluation of this very switch. Knows nothing of repos.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, cast

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from langgraph_switch.config import SwitchConfig
from langgraph_switch.errors import ConfigError
from langgraph_switch.hub.pull import CARD
from langgraph_switch.offline.provenance import (
    EVALUATION,
    METRICS,
    data_sets,
    on_hub,
    switch_identity,
)
from langgraph_switch.offline.switcher_card import candidate_table, switcher_card
from langgraph_switch.offline.work_folder import differences
from langgraph_switch.report.card_result import card_result
from langgraph_switch.report.table import TRAINED, score_table, verdict

_SCORES = re.compile(r"\n*<!-- evaluation -->.*?<!-- end of evaluation -->\n?", re.DOTALL)


def read_evaluation(folder: Path, config: SwitchConfig) -> dict[str, Any]:
    """Return an evaluation of a switch, without the questions that it shows as examples.

    Raises:
        ConfigError: There is none, it is of another switch, or it compares no trained switcher.
    """
    file = folder / EVALUATION if folder.is_dir() else folder
    if not file.is_file():
        raise ConfigError(
            f"{str(folder)!r} holds no {EVALUATION}.",
            hint="name a folder that langgraph-switch evaluate made",
        )
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    if differing := differences(found.get("switch"), switch_identity(config)):
        raise ConfigError(
            f"{str(file)!r} is an evaluation of another switch, or of this one with other "
            "settings:\n  - " + "\n  - ".join(differing),
            hint="evaluate what you push: langgraph-switch evaluate --config FOLDER",
        )
    if TRAINED not in found["analysis"]["conditions"]:
        raise ConfigError(
            f"{str(file)!r} compares no trained switcher.",
            hint="leave --evaluation out: there is no score to tell",
        )
    return found | {"analysis": found["analysis"] | {"examples": []}}


def switch_card(
    config: SwitchConfig, folder: Path, *, name: str, evaluation: dict[str, Any] | None
) -> ModelCard:
    """Return the card of a switch that is published under a name.

    A card that somebody edited keeps its text; one that training wrote, or none, is written for
    the name. Bases, data sets and scores are added to its metadata.

    Args:
        config: The switch, its candidates named as the repo will name them.
        folder: Where its `metrics.json` and card are, if it has them.
        name: Of the repo.
        evaluation: From `read_evaluation`.
    """
    metrics = _read_metrics(folder)
    card = _begun(config, folder, name, metrics)
    data = card.data
    data["tags"] = list(dict.fromkeys([*(data.get("tags") or ()), *_TAGS]))
    data["library_name"] = data.get("library_name") or "langgraph-switch"
    if bases := on_hub(spec.model for spec in config.candidates):
        data["base_model"] = bases
        if len(bases) > 1:  # An adapter of one of several: no one relation holds.
            data.pop("base_model_relation")
    tasks = [one["task"] for one in _rollouts(metrics)]
    sources = [one.get("source") for one in (*_rollouts(metrics), *tasks)]
    if evaluation is not None:
        sources.append(evaluation["task"].get("source"))
        _add_scores(card, evaluation, name)
    if used := data_sets(sources):
        data["datasets"] = used
    return card


def _begun(
    config: SwitchConfig, folder: Path, name: str, metrics: dict[str, Any] | None
) -> ModelCard:
    """Return the card that is there, or a fresh one where nobody has put a hand to it."""
    file = folder / CARD
    there = cast("ModelCard", ModelCard.load(file)) if file.is_file() else None
    if metrics is not None:
        local = SwitchConfig.load(folder)
        as_trained = switcher_card(local, metrics, name=title(there))
        if there is None or there.text.strip() == as_trained.text.strip():
            return switcher_card(config, metrics, name=name)
    if there is not None and there.text.strip():
        return there
    data = there.data if there else ModelCardData()
    body = _PLAIN.format(name=name, number=len(config.names), table=candidate_table(config))
    return ModelCard(f"---\n{data.to_yaml()}\n---\n{body}")


def title(card: ModelCard | None) -> str:
    """Return the heading of a card."""
    found = re.search(r"^# (.+)$", card.text, re.MULTILINE) if card else None
    return found[1] if found else ""


def _add_scores(card: ModelCard, evaluation: dict[str, Any], name: str) -> None:
    analysis, about, task = evaluation["analysis"], evaluation["about"], evaluation["task"]
    score = analysis["conditions"][TRAINED]["score"]
    result = card_result(
        score, metric=str(about["score"]), data_set=str(task["name"]), split=str(task["split"])
    )
    data = cast("ModelCardData", card.data)
    kept = [one for one in data.eval_results or [] if _kind(one) != _kind(result)]
    data.model_name = data.model_name or name
    data.eval_results = [*kept, result]
    section = _SECTION.format(
        n=score["n"], table=score_table(analysis), verdict=verdict(analysis), **about
    )
    card.text = _SCORES.sub("", card.text).rstrip("\n") + section


def _kind(one: EvalResult) -> tuple[str, str]:
    return one.dataset_type, one.metric_type


def _read_metrics(folder: Path) -> dict[str, Any] | None:
    file = folder / METRICS
    if not file.is_file():
        return None
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found if found.get("kind") == "trained switcher" else None


def _rollouts(metrics: dict[str, Any] | None) -> list[dict[str, Any]]:
    return metrics["provenance"]["rollouts"] if metrics else []


_TAGS = ("switch-generation", "model-collaboration", "langgraph-switch")
_PLAIN = """\
# {name}

A switch: {number} checkpoints take turns writing one response, segment by segment; a switcher reads
the query and who wrote what so far, and says who writes next.

```python
from langgraph_switch import SwitchLLM

llm = SwitchLLM.from_pretrained("{name}")
```

{table}
"""
_SECTION = """

<!-- evaluation -->
## Scores of whole responses

{n} questions of split `{split}` of {task}, score {score}, in %; in brackets 95 % intervals. Every
condition answers the same questions with the same seeds and budget: segments of {segment}, at most
{most tokens of a response} tokens. {verdict}

{table}
<!-- end of evaluation -->
"""
