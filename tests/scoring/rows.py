from __future__ import annotations

from langgraph_switch.scoring import Answer
from langgraph_switch.trace import Message


def answered(response: str, *references: str, choices: tuple[str, ...] = ()) -> Answer:
    return Answer(
        messages=(Message(role="user", content="Which one?"),),
        response=response,
        references=references,
        choices=choices,
    )


def answer(response: str, *references: str, query: str = "Which one?") -> Answer:
    """Return an answer to a question in words."""
    message = Message(role="user", content=query)
    return Answer(messages=(message,), response=response, references=references)
