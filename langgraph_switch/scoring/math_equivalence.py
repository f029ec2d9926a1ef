"""Whether a response's answer is the reference in other words of mathematics (math-verify).

Equal texts and numbers need no mathematics. Needs the extra `math`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import ClassVar

from langgraph_switch.errors import InputError, MissingExtraError
from langgraph_switch.scoring.base import Answer, ScoreResult, score_each
from langgraph_switch.scoring.extract import final_answer, marked_answer
from langgraph_switch.scoring.math_process import MathProcess
from langgraph_switch.scoring.normalize import normalize
from langgraph_switch.scoring.numbers import agree, stated_number, whole_number

_MAX_CHARACTERS = 2000
_WORDS = re.compile(r"[^\W\d_]{2,}(?:[ -][^\W\d_]+)*")


@dataclass(frozen=True)
class MathEquivalence:
    r"""1 if the answer equals a reference as mathematics ("x(x+1)" and "x^2+x"), else 0.

    The comparison runs in a process of its own, from any thread, and is ended after `timeout_s`:
    a tower of powers marks its row instead of stopping everything.

    Raises:
        MissingExtraError: math-verify is not installed.
    """

    timeout_s: float = 10.0
    """Seconds that one comparison may take."""
    name: ClassVar[str] = "math"
    needs_references: ClassVar[bool] = True
    _process: MathProcess = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if find_spec("math_verify") is None:
            raise MissingExtraError("The score `math`", extra="math")
        object.__setattr__(self, "_process", MathProcess(timeout_s=self.timeout_s))

    def __call__(self, answers: Sequence[Answer]) -> list[ScoreResult]:
        """Return 0 or 1 per answer."""
        return score_each(self._judge, answers)

    def close(self) -> None:
        """End the process, which also ends with this object."""
        self._process.close()

    def _judge(self, answer: Answer) -> ScoreResult:
        if not answer.references:
            raise InputError("There is no reference.", hint="give the right answer")
        text = final_answer(answer.response).text[-_MAX_CHARACTERS:]
        references = [marked_answer(one) for one in answer.references]
        is_right = any(_is_plainly_equal(text, one) for one in references) or (
            bool(text) and any(self._process.is_equal(text, one) for one in references)
        )
        return ScoreResult(value=float(is_right), answer=text[:200])


def _is_plainly_equal(text: str, reference: str) -> bool:
    """Return whether no mathematics is needed: the same letters, number, or words."""
    if "".join(text.split()) == "".join(reference.split()):
        return True
    number, right = stated_number(text), whole_number(reference)
    if number is not None and right is not None:
        return agree(number, right)
    return _WORDS.fullmatch(reference) is not None and normalize(text) == normalize(reference)
