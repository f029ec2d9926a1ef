"""From a row of a data set to an example: which field is what, options, right answers.

Knows nothing of where rows come from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import fields as dataclass_fields
from string import ascii_uppercase as LETTERS  # noqa: N812 - a constant
from typing import Any, cast

from langgraph_switch.errors import ConfigError, InputError
from langgraph_switch.tasks.task import Example
from langgraph_switch.trace import ROLES, Message, Role

CHOICES_INSTRUCTION = "Answer with the letter of the right option."


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row as it was found."""

    fields: Mapping[str, Any]
    where: str
    """File and line, for messages."""
    number: int
    """From 1, within its file or split; its id unless it has one."""
    split: str | None = None
    """None where neither the row nor its file says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldMap:
    """The names under which rows keep things; of several, the first that a row has."""

    query: tuple[str, ...] = ("query", "input", "question", "prompt", "problem", "instruction")
    messages: tuple[str, ...] = ("messages",)
    """A conversation, instead of a query."""
    references: tuple[str, ...] = (
        "references",
        "reference",
        "answers",
        "answer",
        "output",
        "target",
        "answerKey",
    )
    choices: tuple[str, ...] = ("choices", "options")
    id: tuple[str, ...] = ("id",)
    split: tuple[str, ...] = ("split",)
    query_suffix: str = ""
    """Put behind every question, e.g. an instruction how to state the answer."""

    @classmethod
    def of(cls, names: Mapping[str, str | Sequence[str]] | FieldMap | None) -> FieldMap:
        """Return a map with some names replaced: `{"query": "text", "references": "label"}`.

        Raises:
            ConfigError: There is nothing to be named so.
        """
        if isinstance(names, FieldMap):
            return names
        known = [one.name for one in dataclass_fields(cls)]
        if unknown := [name for name in names or () if name not in known]:
            raise ConfigError(
                f"Rows have no {unknown[0]!r} to be named.", hint=f"use {', '.join(known)}"
            )
        changes: dict[str, Any] = {
            name: (value,) if isinstance(value, str) and name != "query_suffix" else value
            for name, value in (names or {}).items()
        }
        return replace(cls(), **changes)

    def all_names(self) -> set[str]:
        """Return every name that has a meaning."""
        listed = (self.query, self.messages, self.references, self.choices, self.id, self.split)
        return {name for names in listed for name in names}


def example_from_row(row: Row, names: FieldMap) -> Example:
    """Return a row's example.

    Raises:
        InputError: It asks nothing, or its right answer is none of its options.
    """
    choices, labels = _choices(row, names)
    given = _first(row.fields, names.references)
    answers = [] if given is None else _answers(given, row)
    if choices:
        references = tuple(_letter(one, choices, labels, row) for one in answers)
    else:
        references = tuple(_text(one) for one in answers)
    number = _first(row.fields, names.id)
    return Example(
        id=str(row.number if number is None else number),
        messages=_messages(row, names, choices),
        references=references,
        choices=choices,
        meta={key: value for key, value in row.fields.items() if key not in names.all_names()},
    )


def _messages(row: Row, names: FieldMap, choices: Sequence[str]) -> tuple[Message, ...]:
    text = _first(row.fields, names.query)
    dialogue = _first(row.fields, names.messages)
    if text is None and isinstance(dialogue, list) and dialogue:
        messages = tuple(_message(one, row) for one in dialogue)
    elif isinstance(text, str) and text.strip():
        messages = (Message(role="user", content=text),)
    else:
        raise InputError(
            f"{row.where} asks nothing: none of {', '.join(names.query)} is a text; it has "
            f"{', '.join(map(str, row.fields)) or 'no fields'}.",
            hint='add the question, or name its field: fields={"query": "..."}',
        )
    if messages[-1].role != "user":
        raise InputError(
            f"{row.where}: the conversation ends with {messages[-1].role!r}.",
            hint="let it end with the user's question",
        )
    last = replace(messages[-1], content=_asked(messages[-1].content, choices, names))
    return (*messages[:-1], last)


def _message(data: Any, row: Row) -> Message:
    role = data.get("role") if isinstance(data, Mapping) else None
    content = data.get("content") if isinstance(data, Mapping) else None
    if role not in ROLES or not isinstance(content, str):
        raise InputError(
            f"{row.where}: a message needs a role ({', '.join(sorted(ROLES))}) and a text, got "
            f"{data!r:.80}.",
            hint='write {"role": "user", "content": "..."}',
        )
    return Message(role=cast("Role", role), content=content)


def _asked(question: str, choices: Sequence[str], names: FieldMap) -> str:
    if choices:
        listed = "\n".join(f"{LETTERS[i]}. {text}" for i, text in enumerate(choices))
        question = f"{question.rstrip()}\n{listed}\n\n{CHOICES_INSTRUCTION}"
    return question + names.query_suffix


def _choices(row: Row, names: FieldMap) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the options' texts, and the labels that the data set calls them by."""
    given = _first(row.fields, names.choices)
    if given is None:
        return (), ()
    if isinstance(given, Mapping) and isinstance(given.get("text"), list):
        texts, labels = given["text"], given.get("label") or []
    elif isinstance(given, Mapping):
        texts, labels = list(given.values()), list(given)
    else:
        texts, labels = given, []
    if not isinstance(texts, list) or not 1 < len(texts) <= len(LETTERS):
        raise InputError(
            f"{row.where}: the options must be a list or an object of 2 to {len(LETTERS)} texts.",
            hint='write {"choices": ["Rome", "Paris"], "answer": "B"}',
        )
    return tuple(map(str, texts)), tuple(map(str, labels))


def _letter(given: Any, choices: Sequence[str], labels: Sequence[str], row: Row) -> str:
    """Return the letter of the right option: by its label, position (from 0), letter or text."""
    text = str(given)
    letters = LETTERS[: len(choices)]
    if text in labels:
        return letters[labels.index(text)]
    if isinstance(given, int) and not isinstance(given, bool) and 0 <= given < len(choices):
        return letters[given]
    if len(text) == 1 and text in letters:
        return text
    if text in choices:
        return letters[choices.index(text)]
    raise InputError(
        f"{row.where}: the right answer {text!r:.60} is none of its {len(choices)} options.",
        hint=f"name an option's label, letter ({letters[0]} to {letters[-1]}), text, or its "
        "position from 0",
    )


def _answers(given: Any, row: Row) -> list[Any]:
    """Return right answers as a list: one value, a list of aliases, or a list written as text."""
    if isinstance(given, Mapping):
        given = given.get("text", given.get("value"))
    if isinstance(given, str) and given.lstrip().startswith('["'):
        try:
            listed = json.loads(given)
        except json.JSONDecodeError:
            listed = None
        if isinstance(listed, list) and all(isinstance(one, str) for one in listed):
            given = listed
    values = given if isinstance(given, list | tuple) else [given]
    if not all(isinstance(one, str | int | float) for one in values):
        raise InputError(
            f"{row.where}: a right answer must be a text or a number, got {given!r:.60}.",
            hint='write "answer": "...", or a list of such',
        )
    return [one for one in values if not (isinstance(one, str) and not one.strip())]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else str(value)


def _first(row: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)
