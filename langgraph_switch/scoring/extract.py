r"""Where in a response the answer stands: marks, phrases, or the whole text.

The rules, strongest first. Among marks of one strength the LAST in the text counts.

| strength | what states the answer | example |
|---|---|---|
| mark | a box, the innermost of nested ones, braces balanced | `\boxed{\frac{1}{2}}` |
| mark | an answer tag | `<answer>42</answer>` |
| mark | four hashes before a number, or before the last line | `#### 42` |
| mark | "final answer" and what follows it | `The final answer is 42.` |
| phrase | "answer" and "is", "was", "=", ":" and so on | `**Answer:** 42` |
| none | the whole text | `42` |

- Only what follows a closed `</think>` counts; nothing does while thinking never ends. Of very
  long responses, the last 20,000 characters count.
- A new "Question:" behind a stated answer ends the response (base models go on asking).
- "The answer is not 5" states nothing and is left out; "not 5 but 6" states 6.
- What follows a phrase reaches to the end of its sentence, or is the next line if its own is
  empty; a reason ("because", "since", "which") is cut off. "3.5", "Dr. No" and "J. K. Rowling" are
  no ends of sentences.
- Around the answer, emphasis, quotes, `$` pairs, `\text{}`, "therefore" and the last full stop go.

Knows nothing of numbers, options or references.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FinalAnswer:
    """What a response gives as its answer."""

    text: str
    is_stated: bool
    """Whether a mark or phrase says that it is the answer; else it is the whole response."""
    line: str = ""
    """Behind a phrase, all of its line: also what was cut off as a reason or a next sentence."""


_MAX_CHARACTERS = 20_000
_BOX = re.compile(r"\\(?:f?boxed|fbox|box)\s*(?=\{)")
_BRACE = re.compile(r"(?<!\\)[{}]")
_TAG = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)
_HASHES = re.compile(r"^[ \t]*####[ \t]*(\S[^\n]*?)[ \t]*$", re.MULTILINE)
_HASHED_NUMBER = re.compile(r"[-+\u2212]?[$€£]?[0-9][0-9,./]*(?<![.,/])\s?%?")
_PHRASE = re.compile(
    r"""
    (?<![\w\\])(?P<final>final\s+)?
    (?:(?:(?:correct|right|best|exact|most\s+\w+)\s+)+(?:answer|option|choice|one)|answers?
      |ans(?=\s*[:=])|final(?=:))
    (?:\s+(?:to|for|of|in|that|which|we|i)\s[^\n.:=]{0,100}?)?       # to the question
    (?:,[^\n.,:=]{1,60},)?                                             # , after all that,
    [*_)]*\s*
    (?:(?:is|are|was|were|equals|remains|(?:would|should|must|will|has\s+to|can\s+only)\s+be)\b
      \s*(?:(?-i:that)(?=\s)|as\s+follows)?\s*[*_]*\s*:?|:|=|(?P<heading>\#*\n))  # "# Answer"
    """,
    re.VERBOSE | re.IGNORECASE,
)
_HEADING = re.compile(r"(?:^|\n)[#*_ \t]*(?:final\s+)?answer\Z", re.IGNORECASE)
_NEW_QUESTION = re.compile(r"\n\s*[#*]*\s*(?:Question|Problem|Q)(?:\s*\d+)?\s*[*]*:")
_NEGATION = re.compile(
    r"\W*(?:definitely\s+|certainly\s+)?(?:not|never|neither)\b"
    r"(?!\s+(?:enough|possible|given|stated|known|determin|defined|sure|available|applicable"
    r"|mentioned|specified|necessarily|clear|provided|listed|a\b|an\b|any\b|all\b))",
    re.IGNORECASE,
)
_NOT_X_BUT = re.compile(r"\W*not\b[^.\n]*?\bbut\s+(?:rather\s+|instead\s+)?", re.IGNORECASE)
_REASON = re.compile(
    r"(?<=\S)(?:\s*[,;(\u2013\u2014-])?\s+(?:because|since|which|given that|due to|where)\b.*",
    re.IGNORECASE | re.DOTALL,
)
_SENTENCE_END = re.compile(r"[.!?]+(?=[\"'*_)\]]*(?:\s|\Z))")
_ABBREVIATION = re.compile(
    r"(?:\b(?:Dr|Mr|Mrs|Ms|St|Jr|Sr|Mt|Ft|Prof|Gen|Sgt|Lt|Col|Rev|Hon|vs|approx|ca|cf|e\.g|i\.e)"
    r"|(?<![^\s.])[A-Z])\Z"
)
_OPENINGS = {r"\[": r"\]", "$$": "$$", r"\(": r"\)"}
_WRAPPERS = (
    ("$$", "$$"),
    ("$", "$"),
    (r"\(", r"\)"),
    (r"\[", r"\]"),
    ("`", "`"),
    ('"', '"'),
    ("'", "'"),
    ("*", "*"),
    ("_", "_"),
)
_TEXT_COMMAND = re.compile(
    r"\\(?:text|textbf|textit|mathrm|mathbf|mathit|mbox|f?boxed|emph)\s*\{([^{}]*)\}"
)
_FILLER = re.compile(
    r"(?:(?:therefore|thus|hence|so|that|simply|just|clearly|indeed|definitely|actually|probably|"
    r"obviously|most likely|likely|still|then|now)\b[\s,:]*)*"
)


def final_answer(response: str) -> FinalAnswer:
    """Return what a response gives as its answer, by the rules above."""
    text = _without_thinking(response)[-_MAX_CHARACTERS:]
    first = next(_phrases(text, final_only=False), None) or next(_marks(text), None)
    if first is not None and (again := _NEW_QUESTION.search(text, first[0])):
        text = text[: again.start()]
    marks = list(_marks(text)) or list(_phrases(text, final_only=False))
    if not marks:
        return FinalAnswer(clean(_without_denials(text)), is_stated=False)
    _, answer, line = max(marks)
    return FinalAnswer(clean(answer), is_stated=True, line=clean(line))


def marked_answer(text: str) -> str:
    """Return the marked answer of a reference ("... #### 42"), or all of it."""
    marks = [*_boxes(text), *_hashed(text)]
    return clean(max(marks)[1]) if marks else text.strip()


def last_line(text: str) -> str:
    """Return the last line that says something."""
    lines = [line for line in text.splitlines() if line.strip()]
    return clean(lines[-1]) if lines else ""


def clean(text: str) -> str:
    """Return an answer without what is only put around it."""
    text = re.sub(r"</?answer>|\*\*|__", "", text)
    before = None
    while before != text:
        before = text
        text = _TEXT_COMMAND.sub(r"\1", text.strip())
        text = _without_wrapper(text.rstrip(".,;:! \n\\").lstrip(":=,; \n"))
    return text


def _without_wrapper(text: str) -> str:
    for start, end in _WRAPPERS:
        inner = text[len(start) : -len(end)]
        is_wrapped = text.startswith(start) and text.endswith(end) and len(text) > len(start + end)
        if is_wrapped and start not in inner and end not in inner:
            return inner
    return text


def _without_thinking(response: str) -> str:
    opened, closed = response.rfind("<think>"), response.rfind("</think>")
    if opened > closed:
        return response[:opened]
    return response[closed + len("</think>") :] if closed >= 0 else response


def _marks(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield where each mark begins, the answer that it states, and the rest of its line."""
    for start, answer in (*_boxes(text), *_hashed(text)):
        yield start, answer, ""
    for tag in _TAG.finditer(text):
        yield tag.start(), tag[1], ""
    yield from _phrases(text, final_only=True)


def _boxes(text: str) -> Iterator[tuple[int, str]]:
    """Yield where each closed box begins, and its content."""
    starts = {box.end(): box.start() for box in _BOX.finditer(text)}
    opened: list[int] = []
    for brace in _BRACE.finditer(text) if starts else ():
        if brace[0] == "{":
            opened.append(brace.start())
        elif opened:
            start = opened.pop()
            content = text[start + 1 : brace.start()]
            if start in starts and content.strip():
                yield starts[start], content


def _hashed(text: str) -> Iterator[tuple[int, str]]:
    for line in _HASHES.finditer(text):
        is_last = not text[line.end() :].strip()
        if is_last or _HASHED_NUMBER.fullmatch(line[1]):
            yield line.start(), line[1]


def _phrases(text: str, *, final_only: bool) -> Iterator[tuple[int, str, str]]:
    """Yield where each phrase begins, the answer behind it, and its line; no denials."""
    unified = text.replace("\u2019", "'")
    for phrase in _PHRASE.finditer(unified):
        if (final_only and not phrase["final"]) or not _is_phrase(phrase):
            continue
        rest = unified[phrase.end() :]
        if other := _NOT_X_BUT.match(rest):
            rest = rest[other.end() :]
        elif _NEGATION.match(rest):
            continue
        answer, line = _sentence(rest)
        if answer:
            yield phrase.start(), answer, line


def _without_denials(text: str) -> str:
    for phrase in reversed(list(_PHRASE.finditer(text))):
        if _NEGATION.match(text, phrase.end()):
            begin = max(text.rfind(mark, 0, phrase.start()) for mark in ("\n", ". ", "! ", "? "))
            end = _SENTENCE_END.search(text, phrase.end())
            text = text[: begin + 1] + text[end.end() if end else len(text) :]
    return text


def _is_phrase(phrase: re.Match[str]) -> bool:
    """Return whether a phrase that ends its line is a heading, and not the end of a sentence."""
    if phrase["heading"] is None:
        return True
    line = phrase.string[: phrase.end()].rstrip("#*_) \n")
    return _HEADING.search(line) is not None


def _sentence(rest: str) -> tuple[str, str]:
    """Return the answer at the beginning of what follows a phrase, and its whole line."""
    body = _FILLER.sub("", rest.lstrip("\n\t :*_"), count=1)
    for opening, closing in _OPENINGS.items():
        if body.startswith(opening) and (end := body.find(closing, len(opening))) > 0:
            return body[len(opening) : end], ""
    line = sentence = body.partition("\n")[0]
    for end_mark in _SENTENCE_END.finditer(line):
        if end_mark[0] != "." or not _ABBREVIATION.search(line[: end_mark.start()]):
            sentence = line[: end_mark.start()]
            break
    return _REASON.sub("", sentence).strip(), line
