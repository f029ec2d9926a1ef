"""Whether the number that a response ends with is the right one.

Knows nothing of other kinds of answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from langgraph_switch.errors import InputError
from langgraph_switch.scoring.base import Answer, ScoreResult, score_each
from langgraph_switch.scoring.extract import FinalAnswer, final_answer, marked_answer
from langgraph_switch.scoring.numbers import Number, agree, last_number, stated_number, whole_number


@dataclass(frozen=True, slots=True)
class Numeric:
    """1 if the response's number is a reference, else 0; units and spelling aside.

    Where an answer is stated ("The answer is 5 apples."), its number counts; else the last number
    of the response.
    """

    rel_tol: float | None = None
    """Largest share of the reference by which a number may be off. None: integers exactly, others
    after rounding to the fewer decimals, but at least three significant digits."""
    name: ClassVar[str] = "numeric"
    needs_references: ClassVar[bool] = True

    def __call__(self, answers: Sequence[Answer]) -> list[ScoreResult]:
        """Return 0 or 1 per answer."""
        return score_each(self._judge, answers)

    def _judge(self, answer: Answer) -> ScoreResult:
        references = [_reference(one) for one in answer.references]
        if not references:
            raise InputError("There is no reference.", hint="give the right number")
        number = answered_number(final_answer(answer.response))
        if number is None:
            return ScoreResult(value=0.0)
        is_right = any(agree(number, one, rel_tol=self.rel_tol) for one in references)
        return ScoreResult(value=float(is_right), answer=spelled(number))


def answered_number(answer: FinalAnswer) -> Number | None:
    """Return the number that an answer gives, or None."""
    if answer.is_stated:
        return stated_number(answer.text)
    return stated_number(answer.text) if _is_short(answer.text) else last_number(answer.text)


def spelled(number: Number) -> str:
    """Return a number as a short text, for reports."""
    whole = number.value.denominator == 1
    text = str(number.value.numerator) if whole else f"{float(number.value):.12g}"
    return f"{text}%" if number.is_percent else text


def _is_short(text: str) -> bool:
    """Return whether a text has no room for a derivation: "twenty-one", "5 or 6"."""
    return "\n" not in text and len(text.split()) <= 3  # noqa: PLR2004


def _reference(text: str) -> Number:
    marked = marked_answer(text)
    number = whole_number(marked) or stated_number(marked)
    if number is None:
        raise InputError(
            f"The reference {text!r:.60} is no number.",
            hint="give a number, or use the score exact_match",
        )
    return number
