"""The report: every condition answers the same questions, through the package's own LLMs.

This module does not know how anything was trained.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langgraph_switch import CheckpointLLM, SwitchConfig, SwitchLLM
from langgraph_switch.config import GREEDY, LMSwitcherSpec, RandomSwitcherSpec
from langgraph_switch.switchers.base import Switcher, Turn
from langgraph_switch.trace import Trace
from langgraph_switch.trace_llm import TraceLLM
from recipes.tiny_family.intervals import share
from recipes.tiny_family.questions import Question, QuestionType, is_right
from recipes.tiny_family.switching import MAX_TOKENS, NAMES

RANDOM, UNTUNED, TRAINED = "random switching", "untuned switcher", "trained switcher"
ORACLE = "best single per question (oracle)"
_BATCH = 64


@dataclass(frozen=True, slots=True)
class Answers:
    """What one condition answered to a list of questions."""

    right: tuple[bool, ...]
    tokens_by_candidate: dict[str, int]
    opened_by: dict[str, int]
    """How often each sequence of first speakers occurred, as "aligned pretrained aligned"."""


class Without:
    """A switcher that may not choose one candidate; the anchor still opens and closes."""

    def __init__(self, base: Switcher, index: int) -> None:
        self._base = base
        self._index = index
        self.decided_by = base.decided_by
        self.sampling = base.sampling

    def probabilities(self, turns: Sequence[Turn]) -> list[tuple[float, ...]]:
        """Return the base's probabilities, one of them set to 0."""
        found = self._base.probabilities(turns)
        return [tuple(0.0 if i == self._index else p for i, p in enumerate(ps)) for ps in found]

    def check(self, trace: Trace) -> None:
        """Refuse what the base refuses."""
        self._base.check(trace)

    def release(self, rows: Sequence[str]) -> None:
        """Let the base forget rows."""
        self._base.release(rows)


def conditions(folder: Path) -> Iterator[tuple[str, TraceLLM]]:
    """Yield every condition of the report, its models loaded when it is first asked."""
    config = SwitchConfig.load(folder)
    for candidate in config.candidates:
        model = config.resolve_model(candidate.model)
        yield (
            f"{candidate.name} alone",
            CheckpointLLM(
                model=model, prompt=candidate.prompt, sampling=GREEDY, max_tokens=MAX_TOKENS
            ),
        )
    yield RANDOM, SwitchLLM(config=config.with_changes(switcher=RandomSwitcherSpec()))
    untuned = LMSwitcherSpec(candidate="aligned", sampling=GREEDY)
    yield UNTUNED, SwitchLLM(config=config.with_changes(switcher=untuned))
    trained = SwitchLLM(config=config)
    yield TRAINED, trained
    for index, name in enumerate(NAMES):
        without = Without(trained.switch.switcher, index)
        yield f"trained without {name}", SwitchLLM(config=config, switcher=without)


def answer(llm: TraceLLM, questions: Sequence[Question]) -> Answers:
    """Let one condition answer."""
    right: list[bool] = []
    tokens: Counter[str] = Counter()
    opened_by: Counter[str] = Counter()
    for start in range(0, len(questions), _BATCH):
        batch = questions[start : start + _BATCH]
        result = llm.generate([question.query for question in batch])
        for question, (generation, *_) in zip(batch, result.generations, strict=True):
            trace = Trace.from_json((generation.generation_info or {})["trace"])
            right.append(is_right(question, generation.text))
            tokens.update(trace.tokens_by_speaker())
            opened_by[" ".join(segment.speaker for segment in trace.segments[:4])] += 1
    return Answers(tuple(right), dict(tokens), dict(opened_by.most_common(5)))


def evaluate(
    folder: Path, questions: Mapping[QuestionType, Sequence[Question]], *, sample: int
) -> dict[str, Any]:
    """Return every condition's share of right answers by question type, as plain JSON types.

    Of the first `sample` questions of each type the number of right answers is kept as well, so
    that a test can repeat them.
    """
    answers = {
        (name, kind): answer(llm, asked)
        for name, llm in conditions(folder)
        for kind, asked in questions.items()
    }
    singles = [f"{name} alone" for name in NAMES]
    for kind in questions:
        alone = zip(*(answers[name, kind].right for name in singles), strict=True)
        answers[ORACLE, kind] = Answers(tuple(any(row) for row in alone), {}, {})
    scores: dict[str, dict[str, Any]] = {}
    for (name, kind), found in answers.items():
        clusters = [question.cluster for question in questions[kind]]
        scores.setdefault(name, {})[kind] = share(found.right, clusters).to_json()
    return {
        "scores": scores,
        "right_in_sample": {
            name: {kind: sum(answers[name, kind].right[:sample]) for kind in questions}
            for name in scores
        },
        "by_relation": _by_relation(answers, questions),
        "trained_switcher": {
            kind: {
                "tokens_by_candidate": answers[TRAINED, kind].tokens_by_candidate,
                "opened_by": answers[TRAINED, kind].opened_by,
                "solved_where_all_alone_fail": _new_skills(answers, kind),
            }
            for kind in questions
        },
    }


def _new_skills(
    answers: Mapping[tuple[str, QuestionType], Answers], kind: QuestionType
) -> dict[str, int]:
    """Return, of the questions that every checkpoint alone fails, how many switching solves."""
    failed = [not is_right for is_right in answers[ORACLE, kind].right]
    solved = {"failed": sum(failed)}
    for name in (TRAINED, RANDOM):
        pairs = zip(failed, answers[name, kind].right, strict=True)
        solved[name] = sum(f and r for f, r in pairs)
    return solved


def _by_relation(
    answers: Mapping[tuple[str, QuestionType], Answers],
    questions: Mapping[QuestionType, Sequence[Question]],
) -> dict[str, dict[str, dict[str, float]]]:
    """Return percentages by condition, question type and relation."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for (name, kind), given in answers.items():
        groups: dict[str, list[bool]] = {}
        for question, is_correct in zip(questions[kind], given.right, strict=True):
            if question.relation is not None:
                groups.setdefault(question.relation, []).append(is_correct)
        shares = {r: round(100 * sum(g) / len(g), 1) for r, g in groups.items()}
        found.setdefault(name, {})[kind] = shares
    return found
