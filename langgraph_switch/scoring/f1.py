"""Shared words between a response's answer and the right one, best over aliases.

Knows nothing of how the answer is found in the response.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from langgraph_switch.errors import InputError
from langgraph_switch.scoring.base import Answer, ScoreResult, score_each
from langgraph_switch.scoring.extract import final_answer
from langgraph_switch.scoring.normalize import normalize


@dataclass(frozen=True, slots=True)
class TokenF1:
    """Harmonic mean of precision and recall over words, with the reference that fits best.

    The words are those of the stated answer ("The answer is Paris."), or of the whole response.
    """

    name: ClassVar[str] = "f1"
    needs_references: ClassVar[bool] = True

    def __call__(self, answers: Sequence[Answer]) -> list[ScoreResult]:
        """Return a number from 0 to 1 per answer."""
        return score_each(_judge, answers)


def _judge(answer: Answer) -> ScoreResult:
    if not answer.references:
        raise InputError("There is no reference.", hint="give the right answer")
    given = final_answer(answer.response).text
    best = max(token_f1(given, reference) for reference in answer.references)
    return ScoreResult(value=best, answer=given[:200])


def token_f1(text: str, reference: str) -> float:
    """Return the F1 of two texts' words, both normalised; repeated words count repeatedly."""
    words, right = Counter(normalize(text).split()), Counter(normalize(reference).split())
    if not words or not right:
        return float(words == right)
    return 2 * (words & right).total() / (words.total() + right.total())
