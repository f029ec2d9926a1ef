"""What a score is: it judges answers in batches, and marks the rows that it cannot judge.

Knows nothing of data sets, of how responses came about, or of any one way to judge them.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, runtime_checkable

from langgraph_switch.errors import ConfigError, MissingExtraError, ModelLoadError, SwitchError
from langgraph_switch.trace import Message, Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A response with everything needed to judge it."""

    messages: tuple[Message, ...]
    """The conversation that the response answers."""
    response: str
    references: tuple[str, ...] = ()
    """Right answers; each alone is right (aliases)."""
    choices: tuple[str, ...] = ()
    """Texts of the options A, B, C ... in order, for multiple choice."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """What else the data set says about the question."""

    @property
    def query(self) -> str:
        """The question as one text."""
        return Trace(messages=self.messages, trace_id="", seed=0, max_tokens=1).query


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreResult:
    """One row's score, or why it has none."""

    value: float | None = None
    """The score; None when the row could not be judged."""
    error: str | None = None
    """Why there is no value."""
    answer: str | None = None
    """What was read as the answer, where the score reads one."""

    @classmethod
    def of(cls, value: Any, *, answer: str | None = None) -> ScoreResult:
        """Return a number as a result; what is no finite number is marked as an error."""
        if isinstance(value, ScoreResult):
            return value if value.value is None else cls.of(value.value, answer=value.answer)
        try:
            number = float(value)
        except (TypeError, ValueError):
            return cls(error=f"The score is no number but {value!r:.80}.", answer=answer)
        if not math.isfinite(number):
            return cls(error=f"The score is not finite: {number}.", answer=answer)
        return cls(value=number, answer=answer)

    @classmethod
    def failed(cls, err: BaseException) -> ScoreResult:
        """Return an exception as a result."""
        first = next(iter(str(err).strip().splitlines()), "")
        return cls(error=f"{type(err).__name__}: {first}" if first else type(err).__name__)


@runtime_checkable
class Score(Protocol):
    """Judges answers in batches.

    Example:
        ```python
        class Brevity:
            name = "brevity"
            needs_references = False

            def __call__(self, answers):
                return [1 / (1 + len(answer.response)) for answer in answers]
        ```
    """

    @property
    def name(self) -> str:
        """What to call it in tables and files."""
        ...

    @property
    def needs_references(self) -> bool:
        """Whether a row without right answers cannot be judged."""
        ...

    def __call__(self, answers: Sequence[Answer]) -> Sequence[float | ScoreResult]:
        """Return one number, or one result, per answer, in order; larger is better."""
        ...


RowFunction: TypeAlias = Callable[[Answer], "float | ScoreResult"]

_NOBODYS_ROW = (ConfigError, MissingExtraError, ModelLoadError)


def score_each(judge: RowFunction, answers: Sequence[Answer]) -> list[ScoreResult]:
    """Judge rows one by one; a row that raises is marked, and the others go on.

    Raises:
        SwitchError: The score itself cannot work (configuration, extra, model).
    """
    results: list[ScoreResult] = []
    for answer in answers:
        try:
            results.append(ScoreResult.of(judge(answer)))
        except _NOBODYS_ROW:
            raise
        except Exception as err:  # noqa: BLE001 - whatever a judge raises marks its row
            results.append(ScoreResult.failed(err))
    return results


def score_answers(score: Score, answers: Sequence[Answer]) -> list[ScoreResult]:
    """Judge a batch: one result per answer, whatever the score does.

    Rows that are NaN, infinite or no number are marked. A score that raises for a whole batch is
    asked again row by row, so that only the rows at fault are lost.

    Raises:
        SwitchError: The score itself cannot work (configuration, extra, model), or it returned
            another number of values than it was given answers.
    """
    if not answers:
        return []
    try:
        values = list(score(answers))
    except _NOBODYS_ROW:
        raise
    except Exception as err:  # noqa: BLE001 - whatever a score raises marks its rows
        if len(answers) == 1:
            return [ScoreResult.failed(err)]
        return [result for answer in answers for result in score_answers(score, [answer])]
    if len(values) != len(answers):
        raise SwitchError(
            f"The score {score.name!r} returned {len(values)} values for {len(answers)} answers.",
            hint="return one value per answer, in order",
        )
    return [ScoreResult.of(value) for value in values]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreSummary:
    """Many rows' scores in a few numbers."""

    mean: float | None
    """Over the rows that have a value; None when there are none."""
    num_scored: int
    num_failed: int
    errors: tuple[tuple[str, int], ...]
    """What went wrong and how often, most frequent first."""

    def __str__(self) -> str:
        """Return one line, failures included."""
        mean = "no score" if self.mean is None else f"{self.mean:.4f}"
        failed = f", {self.num_failed} failed" if self.num_failed else ""
        return f"{mean} over {self.num_scored} rows{failed}"


def summarize(results: Sequence[ScoreResult]) -> ScoreSummary:
    """Return the mean over the rows that were judged, and count the others."""
    values = [result.value for result in results if result.value is not None]
    errors = Counter(result.error or "no value" for result in results if result.value is None)
    return ScoreSummary(
        mean=math.fsum(values) / len(values) if values else None,
        num_scored=len(values),
        num_failed=len(results) - len(values),
        errors=tuple(errors.most_common()),
    )


def score_to_json(score: Score) -> dict[str, Any]:
    """Return a score's name and settings as plain JSON types, for artifacts.

    `make_score` rebuilds the scores of this package from it, judges and functions apart.
    """
    described: dict[str, Any] = {"name": score.name}
    if dataclasses.is_dataclass(score) and not isinstance(score, type):
        for one in dataclasses.fields(score):
            value = getattr(score, one.name)
            is_setting = one.init and value != one.default
            if is_setting and isinstance(value, str | int | float | bool):
                described[one.name] = value
    return described
