"""The card of a trained switcher: every figure is read from its report, none is typed.

Knows nothing of models or of where the card is put.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from langgraph_switch.config import EMBEDDED, SwitchConfig
from langgraph_switch.report.card_result import card_result
from langgraph_switch.report.markdown import markdown_table


def switcher_card(config: SwitchConfig, report: dict[str, Any], *, name: str) -> ModelCard:
    """Return the card of a switch whose switcher was trained.

    Args:
        config: The switch.
        report: What `metrics.json` holds.
        name: What to call the switch.
    """
    return ModelCard(f"---\n{_header(report, name)}\n---\n{_body(config, report, name)}")


def _header(report: dict[str, Any], name: str) -> str:
    base = report["run"]["base"]["model"]
    relation = "finetune" if report["training"]["method"] == "full" else "adapter"
    on_hub = {} if _is_local(base) else {"base_model": base, "base_model_relation": relation}
    data = ModelCardData(
        library_name="langgraph-switch",
        tags=["switch-generation", "model-collaboration", "langgraph-switch"],
        **on_hub,
        **_results(report, name),
    )
    return str(data.to_yaml())


def _results(report: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the accuracy on held-out rows as the Hub shows it, if any were held out."""
    if not report["metrics"]["n"]:
        return {}
    task = str(report["provenance"]["rollouts"][-1]["task"].get("name", "rollouts"))
    result = card_result(
        report["metrics"]["accuracy"],
        metric="accuracy",
        metric_name="a best candidate is chosen",
        data_set=task,
        data_set_name=f"{task}, held-out rows of rollouts",
    )
    return {"model_name": name, "eval_results": [result]}


def _body(config: SwitchConfig, report: dict[str, Any], name: str) -> str:
    metrics = report["metrics"]
    sections = [
        _INTRODUCTION.format(name=name, number=len(config.names)),
        candidate_table(config),
        "## Scores",
        _scores(metrics) if metrics["n"] else "No rows were held out, so nothing was measured.",
        "## Training",
        _training(report),
        "## Rollouts",
        _rollouts(report),
    ]
    if report["warnings"]:
        sections += ["## Warnings", "\n".join(f"- {one}" for one in report["warnings"])]
    return "\n\n".join(sections) + "\n"


def candidate_table(config: SwitchConfig) -> str:
    """Return who takes turns, by the label that the switcher writes."""
    return markdown_table(
        ["label", "candidate", "model"],
        [[str(i), c.name, shown(c.model)] for i, c in enumerate(config.candidates)],
    )


def _scores(metrics: dict[str, Any]) -> str:
    policies = {"**this switcher**": metrics}
    for kind, one in metrics["baselines"].items():
        who = f" ({one['candidate']})" if "candidate" in one else ""
        policies[f"{kind}{who}"] = one
    rows = [
        [label, _interval(one["accuracy"], percent=True), _interval(one["regret"], percent=False)]
        for label, one in policies.items()
    ]
    what = (
        f"{metrics['n']} held-out rows of {metrics['queries']} queries that it was not trained on. "
        "Accuracy: how often a best candidate is chosen. Regret: mean utility lost against the "
        "best candidate. In brackets 95 % intervals, queries resampled whole."
    )
    calibration = (
        f"Expected calibration error {metrics['calibration_error']:.3f} (10 bins), Brier score "
        f"{metrics['brier']:.3f}."
    )
    scores = markdown_table(["choice", "accuracy, %", "regret"], rows)
    return f"{what}\n\n{scores}\n\n{calibration}"


def _training(report: dict[str, Any]) -> str:
    done, run, counts = report["training"], report["run"], report["counts"]
    labels = ", ".join(f"{name} {number}" for name, number in counts["labels"].items())
    kind = "soft" if run["rows"]["soft_labels"] else "hard"
    schedule = "cosine" if done["method"] in {"full", "lora"} else "constant"
    rows = {
        "start": shown(run["base"]["model"]),
        "method": f"{done['method']} ({done['why']})",
        "parameters": f"{done['num_trained_parameters']:,} trained of {done['num_parameters']:,}",
        "rows": f"{counts['training']} of {counts['training_queries']} queries, {kind} labels",
        "labels": labels,
        "left out": f"{counts['ties_left_out']} ties, {counts['failed']} without a score, "
        f"{counts['too_long']} too long",
        "steps": f"{done['steps']} of up to {run['settings']['batch_size']} rows",
        "learning rate": f"{done['learning_rate']:g}, {schedule}",
        "loss of the last epoch": f"{done['final_loss']:.4f}",
        "seed": str(run["settings"]["seed"]),
        "versions": ", ".join(f"{name} {number}" for name, number in report["versions"].items()),
    }
    return markdown_table(["", ""], [[key, value] for key, value in rows.items()])


def _rollouts(report: dict[str, Any]) -> str:
    rows = [
        [
            str(one["task"].get("name", "")),
            str(one["task"].get("split", "")),
            one["settings"]["completer"],
            str(one["settings"]["completions"]),
            one["config_hash"],
        ]
        for one in report["provenance"]["rollouts"]
    ]
    return markdown_table(
        ["task", "split", "completed by", "completions per branch", "config"], rows
    )


def _interval(found: dict[str, float], *, percent: bool) -> str:
    factor, digits = (100, 1) if percent else (1, 3)
    mean, low, high = (f"{factor * found[key]:.{digits}f}" for key in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def shown(model: str) -> str:
    """Return a model's name without the folders of the machine that it lies on."""
    return Path(model).name if _is_local(model) else model


def _is_local(model: str) -> bool:
    return model.startswith((".", "/", "~", EMBEDDED)) or Path(model).is_dir()


_INTRODUCTION = """\
# {name}

A switcher for Switch Generation: it reads a query and who wrote what so far, and says which of
{number} checkpoints writes the next segment.

```python
from langgraph_switch import SwitchLLM

llm = SwitchLLM.from_pretrained("{name}")
```"""
