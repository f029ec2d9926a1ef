"""The card of a distilled model: every figure is read from its report, none is typed.

Knows nothing of models or of where the card is put.
"""

from __future__ import annotations

from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from langgraph_switch.offline.provenance import data_sets, on_hub
from langgraph_switch.offline.recovery import AFTER
from langgraph_switch.report.card_result import card_result
from langgraph_switch.report.markdown import markdown_table
from langgraph_switch.report.table import interval


def distilled_card(report: dict[str, Any], *, name: str) -> ModelCard:
    """Return the card of a model that was distilled from a switch.

    Args:
        report: What `distillation.json` holds.
        name: What to call the model.
    """
    candidates = report["provenance"]["config"]["candidates"]
    base = on_hub(one["model"] for one in candidates if one["name"] == report["anchor"])
    sources = (report["provenance"]["task"].get("source"), report["test"].get("source"))
    data = ModelCardData(
        base_model=base or None,
        datasets=data_sets(sources) or None,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["switch-generation", "distillation", "langgraph-switch"],
        model_name=name,
        eval_results=[_result(report)],
    )
    return ModelCard(f"---\n{data.to_yaml()}\n---\n{_body(report, name)}")


def _result(report: dict[str, Any]) -> EvalResult:
    test = report["test"]
    return card_result(
        report["scores"][AFTER],
        metric=str(test["score"]["name"]),
        data_set=str(test["name"]),
        split=str(test["split"]),
    )


def score_rows(report: dict[str, Any]) -> list[list[str]]:
    """Return the table of scores: condition, score, seconds and tokens per answer."""
    return [
        [
            condition,
            interval(one),
            f"{one['seconds_per_answer']:.3f}",
            f"{one['tokens_per_answer']:.1f}",
        ]
        for condition, one in report["scores"].items()
    ]


SCORE_HEAD = ["", "score, %", "seconds per answer", "tokens per answer"]


def recovered(report: dict[str, Any]) -> str:
    """Return one sentence: how much of the gain is kept, at which cost."""
    found = report["gain_recovered"]
    if found["share"] is None:
        return "The switch is no better than its anchor here: there was no gain to recover."
    share = f"{100 * found['share']:.0f} % [{100 * found['low']:.0f}, {100 * found['high']:.0f}]"
    return (
        f"The distilled model keeps {share} of the switch's gain at "
        f"{report['cost_ratio']:.2f} of its time per answer."
    )


def _body(report: dict[str, Any], name: str) -> str:
    counts, training, test = report["counts"], report["training"], report["test"]
    what = (
        f"The checkpoint `{report['anchor']}` of a switch (checkpoints that take turns within one "
        "response), finetuned on the switch's responses."
    )
    measured = (
        f"{test['questions']} questions of split `{test['split']}` of {test['name']}, score "
        f"{test['score']['name']}; in brackets 95 % intervals. The questions learned from are of "
        f"split `{report['provenance']['task']['split']}`."
    )
    learned = (
        f"Learned from {counts['learned_from']} of {counts['responses']} responses to "
        f"{counts['queries']} questions: {training['why']}, {training['steps']} steps, learning "
        f"rate {training['learning_rate']:g}."
    )
    scores = markdown_table(SCORE_HEAD, score_rows(report))
    return "\n\n".join([f"# {name}", what, recovered(report), scores, measured, learned]) + "\n"
