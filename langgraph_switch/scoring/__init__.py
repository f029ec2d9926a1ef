"""Scores: how good a response is, from exact match to reward models and judges.

Importing this package loads neither torch nor LangChain; `make_score` fetches what a score needs.
"""

from __future__ import annotations

from langgraph_switch.scoring.base import (
    Answer,
    Score,
    ScoreResult,
    ScoreSummary,
    score_answers,
    score_each,
    score_to_json,
    summarize,
)
from langgraph_switch.scoring.extract import FinalAnswer, final_answer
from langgraph_switch.scoring.functions import FunctionScore
from langgraph_switch.scoring.registry import (
    ScoreSpec,
    make_score,
    register_score,
    score_names,
)

__all__ = [
    "Answer",
    "FinalAnswer",
    "FunctionScore",
    "Score",
    "ScoreResult",
    "ScoreSpec",
    "ScoreSummary",
    "final_answer",
    "make_score",
    "register_score",
    "score_answers",
    "score_each",
    "score_names",
    "score_to_json",
    "summarize",
]
