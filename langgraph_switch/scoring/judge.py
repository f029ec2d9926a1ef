"""Any LangChain runnable as a judge: it reads question and response, and writes a grade.

Works with LLMs, chat models and chains that take a text. Knows nothing of any one model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig

from langgraph_switch.errors import ConfigError, InputError
from langgraph_switch.scoring.base import Answer, ScoreResult

JUDGE_PROMPT = """\
Grade how well the response answers the question.

[Question]
{query}
[End of question]

[Response]
{response}
[End of response]

[Right answers, if known]
{references}
[End of right answers]

Reply with one number from 0 (useless or wrong) to 1 (excellent and right), and nothing else.
Grade: """
_FIELDS = ("query", "response", "references")
_FIELD = re.compile("{(query|response|references)}")
_NUMBER = r"(?<![\w.-])(?P<value>[01](?:\.[0-9]+)?|\.[0-9]+|[0-9]+(?=\s*/|\s*%))"
_GRADE = re.compile(_NUMBER + r"(?:\s*/\s*(?P<of>[0-9]+)|\s*(?P<percent>%))?(?![\w/%]|\.[0-9])")
_NAMED_GRADE = re.compile(r"(?:grade|score|rating)\W{0,6}(?:is\W{0,4}|of\W{0,4})?", re.IGNORECASE)


class JudgeScore:
    """Scores from 0 to 1 that a runnable gives; a reply without a grade marks its row.

    Example:
        ```python
        JudgeScore(ChatOllama(model="qwen3:8b", temperature=0))
        ```

    Args:
        runnable: Takes the prompt's text; returns a text, a message or a number.
        prompt: Must contain `{response}`; may contain `{query}` and `{references}`.
        parse: From the reply's text to a number; `parse_grade` by default.
        max_concurrency: Most calls at the same time; the runnable's own default if None.

    Raises:
        ConfigError: It is no runnable, or the prompt does not show the response.
    """

    def __init__(
        self,
        runnable: Runnable[Any, Any],
        *,
        prompt: str = JUDGE_PROMPT,
        parse: Callable[[str], float] | None = None,
        name: str = "judge",
        max_concurrency: int | None = None,
    ) -> None:
        if not isinstance(runnable, Runnable):
            raise ConfigError(
                f"The judge {runnable!r:.80} is no LangChain runnable.",
                hint="wrap a function: RunnableLambda(function)",
            )
        if "{response}" not in prompt:
            raise ConfigError(
                "The judge's prompt does not contain {response}.",
                hint=f"use {', '.join(f'{{{field}}}' for field in _FIELDS)}",
            )
        self._runnable = runnable
        self._prompt = prompt
        self._parse = parse or parse_grade
        self._name = name
        self._max_concurrency = max_concurrency

    @property
    def name(self) -> str:
        """What to call the judge."""
        return self._name

    @property
    def needs_references(self) -> bool:
        """Never: a judge can grade without knowing the right answer."""
        return False

    def __call__(self, answers: Sequence[Answer]) -> list[ScoreResult]:
        """Ask the judge about each answer; the calls go out as one batch."""
        config = RunnableConfig()
        if self._max_concurrency is not None:
            config["max_concurrency"] = self._max_concurrency
        prompts = [self._render(answer) for answer in answers]
        replies = self._runnable.batch(prompts, config, return_exceptions=True)
        return [self._grade(reply) for reply in replies]

    def _render(self, answer: Answer) -> str:
        values = {
            "query": answer.query,
            "response": answer.response,
            "references": "\n".join(answer.references) or "(none given)",
        }
        # One pass: a response that holds "{references}" is not filled in.
        return _FIELD.sub(lambda field: values[field[1]], self._prompt)

    def _grade(self, reply: Any) -> ScoreResult:
        if isinstance(reply, BaseException):
            return ScoreResult.failed(reply)
        if isinstance(reply, int | float):
            return ScoreResult.of(reply)
        text = reply.text if isinstance(reply, BaseMessage) else reply
        if not isinstance(text, str):
            kind = type(reply).__name__
            return ScoreResult(error=f"The judge returned a {kind}, not a text or a number.")
        try:
            return ScoreResult.of(self._parse(text))
        except Exception as err:  # noqa: BLE001 - whatever parsing raises marks its row
            return ScoreResult.failed(err)


def parse_grade(reply: str) -> float:
    """Return the grade in a judge's reply: "0.7", "Score: 7/10", "70%"; the last one counts.

    A grade called so ("Grade: 0.7") comes before one with a scale ("7/10"), and that before
    other numbers.

    Raises:
        InputError: There is none from 0 to 1.
    """
    grades = list(_GRADE.finditer(reply))
    named = {found.end() for found in _NAMED_GRADE.finditer(reply)}
    scaled = [found for found in grades if found["of"] or found["percent"]]
    chosen = [found for found in grades if found.start() in named] or scaled or grades
    if chosen:
        last = chosen[-1]
        scale = float(last["of"] or (100 if last["percent"] else 1))
        value = float(last["value"]) / scale if scale else 2.0
        if value <= 1:
            return value
    raise InputError(
        f"The judge's reply has no grade from 0 to 1: {reply[:80]!r}.",
        hint="let it reply with a number, or pass parse=",
    )
