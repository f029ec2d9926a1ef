"""Which of the options A, B, C ... a response chooses, and the score that compares it.

| what the response says | options | chosen |
|---|---|---|
| `B`, `b)`, `(B)`, `**B.**`, `B. Paris` | | B |
| `The answer is A because ...` | | A |
| `The answer is A dog.` (an article) | cat, dog | B |
| `Option B is correct`, `I choose B`, `B is the right answer` | | B |
| `The answer is not B but C.` | | C |
| `It is Paris.` (one option's text, not denied) | Rome, Paris | B |
| `A or B`, `both A and C`, several options' texts | | none |

Knows nothing of how the options were put to the model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from string import ascii_uppercase as LETTERS  # noqa: N812 - a constant
from typing import ClassVar

from langgraph_switch.errors import InputError
from langgraph_switch.scoring.base import Answer, ScoreResult, score_each
from langgraph_switch.scoring.extract import FinalAnswer, clean, final_answer, last_line
from langgraph_switch.scoring.normalize import normalize

_LABEL = r"(?:option\s+|choice\s+|letter\s+|answer\s+)?[*\"'`]*"
_LEADING = re.compile(
    rf"{_LABEL}(?:[(\[]\s*(?P<bracketed>[A-Za-z])\s*[)\]]|(?P<bare>[A-Za-z])(?![\w'\u2019]))"
    r"(?P<after>[*\"'`]*\s*(?:[).:,;\]]|-|\u2013|\u2014|\Z|\n)?)",
    re.IGNORECASE,
)
_CONTINUES = re.compile(
    r"\s*(?:because|since|as\b|which|is\b|was\b|with\b|due\b|for\b|seems|would|and\b|or\b|&|\()"
)
_ANOTHER = re.compile(
    r"\s*,?\s*(?:and|or|/|&|,)\s*(?:option\s+)?"
    r"(?:[(\[][A-Za-z][)\]]|[A-Z](?![\w']))(?!\s+[a-z])"
)
_LETTER = r"[*\"'`]*[(\[]?(?P<{}>[A-Z])[)\]]?[*\"'`]*"
_CHOSEN = re.compile(
    rf"""
    (?<![\w'])(?i:option|choice|answer|statement)\s+{_LETTER.format("one")}
      \s+(?i:is|would\s+be|seems|must\s+be|appears\s+to\s+be)\s+(?i:the\s+)?(?i:most\s+)?
      (?i:correct|right|best|true|answer|accurate|likely|plausible)
    |(?<![\w']){_LETTER.format("two")}\s+(?i:is|would\s+be|must\s+be)\s+(?i:the\s+)?
      (?i:correct|right|best|answer)\b
    |\b(?i:choose|pick|select|go\s+with|opt\s+for|chose|selected|picked)\s+
      (?i:option\s+|choice\s+|answer\s+|letter\s+)?{_LETTER.format("three")}(?![\w'])(?!\s+[a-z])
    |(?i:\bit\s+is|\bit's|\bthat\s+is|\bmust\s+be|\bthen|\btherefore,?|\bso)\s+
      {_LETTER.format("four")}[.!\s]*\Z
    """,
    re.VERBOSE,
)
_BRACKETED = re.compile(r"\(([A-Z])\)")
_LABELS = re.compile(r"\(([A-Z])\)|^\W{0,3}([A-Z])[).:]", re.MULTILINE)
_DENIED = re.compile(
    r"(?:\bnot|n't|\bnever|\bneither|\bnor|\binstead of|\brather than)"
    r"(?:\s+\S+){0,3}\s*\Z"
)
_WHOLE_LETTER = re.compile(r"\(?([A-Za-z])\)?\.?")


@dataclass(frozen=True, slots=True)
class MultipleChoice:
    """1 if the response chooses the right option, else 0; a response may name it or quote it.

    References are letters (`"B"`); without the options' texts, letters alone are understood.
    """

    name: ClassVar[str] = "multiple_choice"
    needs_references: ClassVar[bool] = True

    def __call__(self, answers: Sequence[Answer]) -> list[ScoreResult]:
        """Return 0 or 1 per answer."""
        return score_each(self._judge, answers)

    def _judge(self, answer: Answer) -> ScoreResult:
        right = {reference_letter(one) for one in answer.references}
        known = LETTERS[: len(answer.choices)] if answer.choices else LETTERS
        if not right or not right <= set(known):
            raise InputError(
                f"The right option is {', '.join(answer.references) or 'missing'}; the question "
                f"has {known[0]} to {known[-1]}.",
                hint='give a letter as the reference, e.g. "B"',
            )
        chosen = chosen_letter(answer.response, answer.choices)
        return ScoreResult(value=float(chosen in right), answer=chosen)


def reference_letter(reference: str) -> str | None:
    """Return the letter that a reference is ("B", "(b)"), or None."""
    found = _WHOLE_LETTER.fullmatch(reference.strip())
    return found[1].upper() if found else None


def chosen_letter(response: str, choices: Sequence[str] = ()) -> str | None:
    """Return the letter of the option that a response chooses, or None where it is unclear."""
    letters = LETTERS[: len(choices)] if choices else LETTERS
    answer = final_answer(response)
    if answer.is_stated:
        return (
            _leading_letter(answer.text, letters, choices)
            or _by_text(answer.text, choices)
            or _by_text(answer.line, choices)
        )
    return (
        _chosen_in_words(answer.text, letters)
        or _unstated_letter(answer, letters, choices)
        or _only_bracketed(answer.text, letters)
        or _by_text(answer.text, choices)
    )


def _leading_letter(text: str, letters: str, choices: Sequence[str]) -> str | None:
    """Return the letter that a stated answer begins with, unless it is a word of a sentence."""
    found = _LEADING.match(text)
    if found is None:
        return None
    kind = "bracketed" if found["bracketed"] else "bare"
    letter, rest = found[kind], text[found.end() :]
    behind = text[found.end(kind) :].lstrip(")]")
    if letter.upper() not in letters or _ANOTHER.match(behind):
        return None
    is_marked = bool(found["bracketed"] or found["after"].strip() or not rest.strip())
    if not is_marked:
        if letter.islower():
            return None
        if letter in "AI" and not _CONTINUES.match(rest) and not _quotes(letter, rest, choices):
            return None
    return letter.upper()


def _quotes(letter: str, rest: str, choices: Sequence[str]) -> bool:
    """Return whether a letter is followed by its own option's text: "A dog" for A = dog."""
    index = LETTERS.index(letter)
    own = normalize(choices[index]) if index < len(choices) else ""
    return bool(own) and normalize(rest).startswith(own)


def _unstated_letter(answer: FinalAnswer, letters: str, choices: Sequence[str]) -> str | None:
    """Return the letter that the whole text or its last line begins with, set off by a mark."""
    if len({a or b for a, b in _LABELS.findall(answer.text)}) > 1:
        return None
    for text in (answer.text, last_line(answer.text)):
        found = _LEADING.match(text)
        if found and (found["bracketed"] or found["after"].strip() or found.end() == len(text)):
            letter = _leading_letter(text, letters, choices)
            if letter and not (found["after"].strip() == "," and letter in "AI"):
                return letter
    return None


def _chosen_in_words(text: str, letters: str) -> str | None:
    found = next(reversed(list(_CHOSEN.finditer(text))), None)
    if found is None or _DENIED.search(text[: found.start()].lower()):
        return None
    letter = found["one"] or found["two"] or found["three"] or found["four"]
    return letter if letter in letters else None


def _only_bracketed(text: str, letters: str) -> str | None:
    named = {letter for letter in _BRACKETED.findall(text) if letter in letters}
    return named.pop() if len(named) == 1 and not _DENIED.search(_before_bracket(text)) else None


def _before_bracket(text: str) -> str:
    found = _BRACKETED.search(text)
    return text[: found.start()].lower() if found else ""


def _by_text(text: str, choices: Sequence[str]) -> str | None:
    """Return the letter of the one option that a text is, mentions or opens with."""
    plain = [clean(choice).casefold() for choice in choices]
    said, options = normalize(text), [normalize(choice) for choice in plain]
    for own, candidates in ((text.casefold(), plain), (said, options)):
        if candidates.count(own) == 1:
            return LETTERS[candidates.index(own)]
    mentioned = [index for index, own in enumerate(options) if own and _mentions(said, own)]
    # "Paris, Texas" mentions "Paris" too: an option within another one does not count.
    outer = [
        index
        for index in mentioned
        if not any(_within(options[index], options[other]) for other in mentioned)
    ]
    if len(outer) == 1:
        return LETTERS[outer[0]]
    return _by_opening(text.casefold(), plain) if outer else None


def _by_opening(text: str, choices: Sequence[str]) -> str | None:
    """Return the letter of the option that a text opens with, set off: "Yes, there is no ...".

    An option that follows at once makes it a list: "Rome, Paris".
    """
    for choice in sorted(choices, key=len, reverse=True):
        rest = text[len(choice) :]
        is_set_off = text.startswith(choice) and rest[:1] in tuple(".,;:!\n")
        if is_set_off and not rest[1:].lstrip().startswith(tuple(choices)):
            return LETTERS[choices.index(choice)]
    return None


def _mentions(said: str, option: str) -> bool:
    return any(not _DENIED.search(said[:start]) for start in _occurrences(said, option))


def _within(inner: str, outer: str) -> bool:
    return inner != outer and f" {inner} " in f" {outer} "


def _occurrences(said: str, option: str) -> Iterator[int]:
    text, start = f" {said} ", -1
    while (start := text.find(f" {option} ", start + 1)) >= 0:
        yield start
