"""A task: questions with right answers, in splits that never share a question, and a score.

Frozen values. Knows nothing of files or data set libraries.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import Any, Self

from langgraph_switch.errors import ConfigError, InputError
from langgraph_switch.scoring import Answer, Score, ScoreResult, score_answers, score_to_json
from langgraph_switch.seeds import derive_seed
from langgraph_switch.trace import Message

TRAIN_SPLITS = ("train", "dev")
TEST_SPLIT = "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One question with its right answers."""

    id: str
    """Names the example within its split."""
    messages: tuple[Message, ...]
    """The conversation to be answered; options of multiple choice are written out in it."""
    references: tuple[str, ...] = ()
    """Right answers; each alone is right."""
    choices: tuple[str, ...] = ()
    """Texts of the options A, B, C ... in order."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """The row's other fields."""

    @property
    def query(self) -> str:
        """The question as one text."""
        return self.answer("").query

    @property
    def question_digest(self) -> str:
        """Equal for two examples exactly when they ask the same."""
        return _digest([[asdict(one) for one in self.messages], list(self.choices)])

    def to_query(self) -> dict[str, Any]:
        """Return what a switch or a jobs file takes as a question."""
        if len(self.messages) == 1 and self.messages[0].role == "user":
            return {"query": self.messages[0].content}
        return {"messages": [asdict(one) for one in self.messages]}

    def answer(self, response: str) -> Answer:
        """Return a response to this question, ready to be scored."""
        return Answer(
            messages=self.messages,
            response=response,
            references=self.references,
            choices=self.choices,
            meta=self.meta,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Examples in splits, and the score that judges answers to them.

    Training reads `train_split`, evaluation reads `test_split`; `record` says which was read.

    Raises:
        ConfigError: Two splits share a question, or two examples of a split an id.
        InputError: The score needs references and an example has none.
    """

    name: str
    score: Score
    splits: Mapping[str, tuple[Example, ...]]
    source: str = ""
    """Where the examples came from."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Examples per split that were left out because another split asks the same."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "splits", MappingProxyType(dict(self.splits)))
        for split, examples in self.splits.items():
            self._check_ids(split, examples)
            self._check_references(split, examples)
        self._check_apart()

    @property
    def train_split(self) -> str:
        """The split that training may read: `train`, or else `dev`.

        Raises:
            InputError: There is neither, or it is empty.
        """
        found = next((name for name in TRAIN_SPLITS if self.splits.get(name)), TRAIN_SPLITS[0])
        self.split(found)
        return found

    @property
    def test_split(self) -> str:
        """The split that evaluation reads.

        Raises:
            InputError: There is none, or it is empty.
        """
        self.split(TEST_SPLIT)
        return TEST_SPLIT

    def digest(self, split: str | None = None) -> str:
        """Return a digest of every example of a split, or of all splits, for artifacts."""
        rows = {
            name: [[one.id, one.question_digest, list(one.references)] for one in examples]
            for name, examples in self.splits.items()
            if split in {None, name}
        }
        return _digest(rows)

    def split(self, name: str) -> tuple[Example, ...]:
        """Return the examples of a split.

        Raises:
            InputError: There is no such split, or it is empty.
        """
        examples = self.splits.get(name)
        if examples:
            return examples
        known = ", ".join(f"{one} ({len(rows)})" for one, rows in self.splits.items()) or "none"
        what = "is empty" if name in self.splits else "does not exist"
        other = next((one for one, rows in self.splits.items() if rows), "all")
        raise InputError(
            f"The split {name!r} of task {self.name!r} ({self.source}) {what}; splits: {known}.",
            hint=f"name each row's split, or load it with splits={{{name!r}: {other!r}}} or "
            "test_fraction=0.2",
        )

    def judge(self, examples: Sequence[Example], responses: Sequence[str]) -> list[ScoreResult]:
        """Return one result per example; rows that cannot be judged are marked.

        Raises:
            InputError: There is not one response per example.
        """
        if len(examples) != len(responses):
            raise InputError(
                f"There are {len(responses)} responses to {len(examples)} examples.",
                hint="give one response per example, in order",
            )
        pairs = zip(examples, responses, strict=True)
        return score_answers(self.score, [one.answer(response) for one, response in pairs])

    def sample(self, limit: int, *, seed: int = 0) -> Self:
        """Return the task with at most `limit` examples per split, in their order.

        Which ones depends on the seed and their ids alone, and a smaller sample is part of a
        larger one.

        Raises:
            InputError: The limit is below 1.
        """
        if limit < 1:
            raise InputError(f"`limit` must be at least 1, got {limit}.", hint="pass limit=100")
        return replace(
            self,
            splits={
                split: _sampled(examples, limit, seed, split)
                for split, examples in self.splits.items()
            },
        )

    def with_score(self, score: Score) -> Self:
        """Return the task under another score."""
        return replace(self, score=score)

    def record(self, split: str | None = None) -> dict[str, Any]:
        """Return what an artifact says about the task, or about the split that was read alone."""
        described: dict[str, Any] = {
            "name": self.name,
            "source": self.source,
            "digest": self.digest(split),
            "score": score_to_json(self.score),
            "splits": {one: len(rows) for one, rows in self.splits.items() if split in {None, one}},
            "left_out": {one: n for one, n in self.left_out.items() if split in {None, one}},
        }
        return described if split is None else described | {"split": split}

    def _check_ids(self, split: str, examples: Sequence[Example]) -> None:
        seen: set[str] = set()
        for one in examples:
            if one.id in seen:
                raise ConfigError(
                    f"Two examples of split {split!r} of {self.source or self.name!r} have the "
                    f"id {one.id!r}.",
                    hint="give each row an id of its own, or none",
                )
            seen.add(one.id)

    def _check_references(self, split: str, examples: Sequence[Example]) -> None:
        without = [one for one in examples if not one.references]
        if self.score.needs_references and without:
            raise InputError(
                f"The score {self.score.name!r} needs right answers, and {len(without)} of "
                f"{len(examples)} examples of split {split!r} of {self.source or self.name!r} "
                f"have none; the first is {without[0].id!r}.",
                hint='add them (field "answer"), or choose a score without, e.g. reward_model',
            )

    def _check_apart(self) -> None:
        home: dict[str, str] = {}
        for split, examples in self.splits.items():
            for one in examples:
                other = home.setdefault(one.question_digest, split)
                if other != split:
                    raise ConfigError(
                        f"The splits {other!r} and {split!r} of {self.source or self.name!r} "
                        f"share a question: {one.query[:80]!r} ({one.id!r}).",
                        hint="keep it in one of them",
                    )


def _sampled(
    examples: tuple[Example, ...], limit: int, seed: int, split: str
) -> tuple[Example, ...]:
    drawn = sorted(examples, key=lambda one: derive_seed(seed, one.id, 0, f"sample {split}"))
    kept = {one.id for one in drawn[:limit]}
    return tuple(one for one in examples if one.id in kept)


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
