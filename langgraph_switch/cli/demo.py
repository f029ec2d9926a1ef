"""`langgraph-switch demo`: a few real questions, answered in colour.

Knows nothing of how the questions were made.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from rich.text import Text

from langgraph_switch.cli.render import Voices
from langgraph_switch.cli.run import load, show_response
from langgraph_switch.cli.screen import Screen
from langgraph_switch.config import SwitchConfig

_QUERIES = (
    "How many legs do 3 spiders and 2 cats have in total?",
    "How many wheels do 4 cars have?",
    "What is 12 plus 7?",
)
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class DemoQuestion:
    """A question, and its answer where it is known."""

    query: str
    answer: Any = None
    kind: str = ""

    def is_right(self, response: str) -> bool:
        """Return whether a response ends with the answer."""
        if isinstance(self.answer, int):
            numbers = _NUMBER.findall(response)
            return bool(numbers) and int(numbers[-1]) == self.answer
        return response.strip().casefold().endswith(str(self.answer).strip().casefold())


def run_demo(
    config: SwitchConfig, screen: Screen, *, count: int, trusted: Collection[str] = ()
) -> None:
    """Answer a few questions, show who wrote what, and count right answers.

    Raises:
        SwitchError: The switch is at fault, or an engine failed.
    """
    llm = load(config, screen, trusted=trusted)
    voices = Voices(config.names)
    screen.err.print(Text("Who writes: ").append_text(voices.legend()))
    questions = pick_questions(read_questions(), count)
    right = known = 0
    for question in questions:
        screen.err.print(Text(f"\n> {question.query}", style="bold"))
        trace = show_response(question.query, llm, screen, voices)
        if question.answer is None:
            continue
        known += 1
        is_right = question.is_right(trace.text)
        right += is_right
        mark = "right" if is_right else f"wrong: it is {question.answer}"
        screen.err.print(Text(mark, style="green" if is_right else "red"))
    if known:
        screen.err.print(Text(f"\n{right} of {known} answers are right.", style="bold"))


def read_questions() -> list[DemoQuestion]:
    """Return the questions that come with the embedded family, or a few without answers."""
    file = files("langgraph_switch") / "tiny" / "questions.jsonl"
    if not file.is_file():
        return [DemoQuestion(query) for query in _QUERIES]
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line]
    return [DemoQuestion(row["query"], row.get("answer"), row.get("type", "")) for row in rows]


def pick_questions(questions: list[DemoQuestion], count: int) -> list[DemoQuestion]:
    """Return the first questions of every kind in turn."""
    kinds: dict[str, list[DemoQuestion]] = {}
    for question in questions:
        kinds.setdefault(question.kind, []).append(question)
    deepest = max(map(len, kinds.values()), default=0)
    in_turn = [group[i] for i in range(deepest) for group in kinds.values() if i < len(group)]
    return in_turn[:count]
