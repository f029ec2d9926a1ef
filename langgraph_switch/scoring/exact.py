"""Whether a response's final answer is the right one, compared as what the reference is.

| reference | compared as |
|---|---|
| `D`, `(b)` | letter of an option: "(D) green" is D, "A dog" is not A |
| `36,000`, `1/2`, `3.5e-7`, `$5` | number: "36000 dollars" is 36,000, "5 apples" is 5 |
| `[3, 5]` | list of numbers or texts in order: "3 and 5" is [3, 5] |
| `True`, `no` | yes or no: "Yes, because ..." is True |
| anything else | text without case, punctuation and articles |

Knows nothing of data sets.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from langgraph_switch.errors import InputError
from langgraph_switch.scoring.base import Answer, ScoreResult, score_each
from langgraph_switch.scoring.choices import chosen_letter, reference_letter
from langgraph_switch.scoring.extract import (
    FinalAnswer,
    clean,
    final_answer,
    last_line,
    marked_answer,
)
from langgraph_switch.scoring.normalize import normalize
from langgraph_switch.scoring.numbers import Number, agree, stated_number, whole_number
from langgraph_switch.scoring.numeric import answered_number

_BRACKETS = re.compile(r"\\?[\[({](.*?)\\?[\])}]", re.DOTALL)
_BETWEEN = re.compile(r"\s*[,;]\s*(?:and\s+)?|\s+and\s+")
_UNBRACKETED = re.compile(r"\s*[,;]\s+(?:and\s+)?|\s*,(?![0-9]{3}(?![0-9]))|\s+and\s+")
_TRUTH = {"true": True, "yes": True, "false": False, "no": False}
_TRUTH_WORD = re.compile(r"(not\s+)?(true|false|yes|no)(?!\w)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ExactMatch:
    """1 if the final answer is one of the references, else 0."""

    rel_tol: float | None = None
    """Largest share of the reference by which a number with decimals may be off. None: after
    rounding to the fewer decimals, but at least three significant digits. Integers are exact."""
    name: ClassVar[str] = "exact_match"
    needs_references: ClassVar[bool] = True

    def __call__(self, answers: Sequence[Answer]) -> list[ScoreResult]:
        """Return 0 or 1 per answer."""
        return score_each(self._judge, answers)

    def _judge(self, answer: Answer) -> ScoreResult:
        if not answer.references:
            raise InputError("There is no reference.", hint="give the right answer")
        given = final_answer(answer.response)
        is_right = any(
            is_match(given, one, response=answer.response, rel_tol=self.rel_tol)
            for one in answer.references
        )
        return ScoreResult(value=float(is_right), answer=given.text[:200])


def is_match(
    given: FinalAnswer, reference: str, *, response: str, rel_tol: float | None = None
) -> bool:
    """Return whether a final answer is the reference."""
    right = marked_answer(reference)
    if letter := _as_letter(right):
        return chosen_letter(response) == letter
    if (number := whole_number(right)) is not None:
        own = answered_number(given)
        return own is not None and agree(own, number, rel_tol=_tolerance(number, rel_tol))
    texts = [given.text] if given.is_stated else [given.text, last_line(given.text)]
    if any(normalize(text) == normalize(right) for text in texts):
        return True
    if (items := _as_list(right)) is not None:
        return any(_are_equal(_listed(text), items, rel_tol) for text in texts)
    if (truth := _TRUTH.get(right.casefold())) is not None:
        return any(_as_truth(text) == truth for text in texts)
    return False


def _tolerance(reference: Number, rel_tol: float | None) -> float | None:
    """Return the tolerance for a reference: none for one that is written without decimals."""
    return rel_tol if reference.unit < 1 else None


def _as_letter(reference: str) -> str | None:
    """Return the option that a reference names: a capital, or a letter in brackets."""
    is_option = reference.startswith("(") or reference.isupper()
    return reference_letter(reference) if is_option else None


def _as_truth(text: str) -> bool | None:
    found = _TRUTH_WORD.match(text)
    return None if found is None else _TRUTH[found[2].lower()] != bool(found[1])


def _as_list(reference: str) -> list[str] | None:
    text = reference.strip()
    is_list = text.startswith("[") and text.endswith("]") and len(text) > 2  # noqa: PLR2004
    return _items(text[1:-1], _BETWEEN) if is_list and "[" not in text[1:] else None


def _listed(text: str) -> list[str]:
    text = text.rpartition("=")[2].strip().replace("\\left", "").replace("\\right", "")
    bracketed = _BRACKETS.fullmatch(text)
    return _items(bracketed[1], _BETWEEN) if bracketed else _items(text, _UNBRACKETED)


def _items(text: str, between: re.Pattern[str]) -> list[str]:
    return [clean(item) for item in between.split(text.strip())]


def _are_equal(given: list[str], right: list[str], rel_tol: float | None) -> bool:
    return len(given) == len(right) and all(
        _is_equal(one, other, rel_tol) for one, other in zip(given, right, strict=True)
    )


def _is_equal(given: str, right: str, rel_tol: float | None) -> bool:
    number, own = whole_number(right), stated_number(given)
    if number is not None:
        return own is not None and agree(own, number, rel_tol=_tolerance(number, rel_tol))
    return normalize(given) == normalize(right)
