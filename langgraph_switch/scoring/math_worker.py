r"""A program that compares mathematical texts, so that one that never ends can be stopped.

It reads `{"answer": ..., "reference": ...}` lines and writes `{"equal": ...}` or `{"error": ...}`
lines. It imports nothing of this package; math-verify's own time limits need the main thread and
Unix, so they stay off and whoever started this program ends it instead.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

from math_verify import parse, verify  # type: ignore[import-untyped]

_NAMES = re.compile(r"(?<![\\A-Za-z])(arcsin|arccos|arctan|sin|cos|tan|log|ln|exp|pi)(?![A-Za-z])")
_ROOT = re.compile(r"(?<!\\)\bsqrt\s*\(([^()]*)\)")
_PROSE = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{3,}")


def parsed(text: str) -> list[Any]:
    """Return what math-verify reads in an expression, or in prose that holds one."""
    expression = _NAMES.sub(r"\\\1", _ROOT.sub(r"\\sqrt{\1}", text))
    if "$" in text or _PROSE.search(re.sub(r"\\[a-z]+\s*\{[A-Za-z ]*\}", "", expression)):
        return list(parse(text, parsing_timeout=None))
    return list(parse(f"${expression}$", parsing_timeout=None)) or list(
        parse(text, parsing_timeout=None)
    )


def compare(question: dict[str, str]) -> dict[str, Any]:
    """Return whether an answer equals its reference."""
    try:
        gold, target = parsed(question["reference"]), parsed(question["answer"])
        return {"equal": bool(verify(gold, target, timeout_seconds=None))}
    except Exception as err:  # noqa: BLE001 - sympy raises anything; the row is marked
        return {"error": f"{type(err).__name__}: {err}"[:300]}


def main() -> None:
    """Answer lines until there are no more."""
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        answers.write(json.dumps(compare(json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
