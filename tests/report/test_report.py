from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from langgraph_switch.offline.analysis import analyse
from langgraph_switch.offline.conditions import ORACLE, RANDOM, TRAINED, alone, without
from langgraph_switch.offline.responses import Response
from langgraph_switch.report import score_table, verdict, write_report
from langgraph_switch.tasks import Example
from langgraph_switch.trace import Message, Segment, Trace

NAMES = ("pretrained", "finetuned", "aligned")
EVIL = "<script>alert(1)</script> & more"


def example(number: int, query: str = "how many?") -> Example:
    return Example(
        id=str(number),
        messages=(Message(role="user", content=query),),
        references=("4",),
        meta={"type": "odd" if number % 2 else "even", "cluster": str(number // 2)},
    )


def response(number: int, speakers: tuple[str, ...], score: float | None) -> Response:
    segments = tuple(
        Segment(
            speaker=name,
            text=f" {EVIL}",
            token_ids=(1, 2),
            tokenizer="t",
            decided_by="switcher",
            finish_reason="length",
        )
        for name in speakers
    )
    trace = Trace(
        messages=example(number).messages, trace_id="t", seed=0, max_tokens=9, segments=segments
    )
    return Response(example_id=str(number), trace=trace, score=score, seconds=0.5)


def evaluation(*, trained: bool = True, ours: float = 1.0, number: int = 12) -> dict[str, Any]:
    """Return an evaluation in which the switch always scores `ours`, singles by turns."""
    examples = [example(i, EVIL if i == 0 else "how many?") for i in range(number)]

    def answers(speakers: tuple[str, ...], score: Any) -> list[Response]:
        return [response(i, speakers, score(i)) for i in range(number)]

    responses = {
        alone(name): answers((name,), lambda i, n=n: float(i % 3 == n))
        for n, name in enumerate(NAMES)
    }
    responses[RANDOM] = [
        response(i, (NAMES[i % 3], NAMES[(i + i // 3) % 3], "aligned"), float(i % 4 == 0))
        for i in range(number)
    ]
    responses[ORACLE] = answers(("aligned",), lambda i: 0.5 + 0.5 * (i % 2))
    first: dict[str, Any] = {}
    second: dict[str, Any] = {}
    if trained:
        responses[TRAINED] = answers(("aligned", "pretrained", "aligned"), lambda _: ours)
        responses[without("pretrained")] = answers(("aligned",), lambda i: float(i % 2))
        first = {name: responses[name] for name in (*map(alone, NAMES), TRAINED)}
        first[alone("aligned")] = answers(("aligned",), lambda _: 0.0)
        second = {alone(name): answers((name,), lambda i: float(i == 5)) for name in NAMES}
    analysis = analyse(
        responses, examples=examples, names=NAMES, resampled_first=first, resampled=second
    )
    return {"about": {"task": EVIL, "versions": {"python": "3"}, "list": [1]}, "analysis": analysis}


def test_the_page_needs_nothing_else_and_escapes_everything(tmp_path: Path) -> None:
    page, *pictures = write_report(tmp_path, evaluation())
    html = page.read_text(encoding="utf-8")
    assert EVIL not in html
    assert "&lt;script&gt;" in html
    assert re.findall(r"<(?:script|link|iframe)", html) == []
    sources = re.findall(r'(?:src|href)="([^"]{0,30})', html)
    assert len(sources) == len(pictures) == 6
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    for picture in pictures:
        assert picture.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_without_a_trained_switcher_there_is_still_a_page(tmp_path: Path) -> None:
    page, *pictures = write_report(tmp_path, evaluation(trained=False))
    assert [one.name for one in pictures] == ["scores.png"]
    assert "No trained switcher was compared." in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("ours", "words"), [(1.0, "beats"), (0.0, "is worse than"), (0.34, "No difference")]
)
def test_the_verdict_says_what_the_interval_says(ours: float, words: str) -> None:
    analysis = evaluation(ours=ours, number=60)["analysis"]
    assert words in verdict(analysis)
    assert "best single checkpoint" in verdict(analysis)


def test_the_table_is_whole_and_differences_are_the_others_less_ours() -> None:
    analysis = evaluation()["analysis"]
    head, _, *rows = [line.strip("| ").split(" | ") for line in score_table(analysis).splitlines()]
    assert head[:3] == ["all (n = 12)", "even (n = 6)", "odd (n = 6)"]
    by_name = {row[0]: row for row in rows}
    assert by_name[RANDOM][1].startswith("25.0 [")
    assert by_name[RANDOM][4].startswith("-75.0 [")
    assert set(by_name) == {*analysis["conditions"]} - {TRAINED} | {f"**{TRAINED}**"}


def test_like_for_like_counts_only_what_every_single_failed() -> None:
    found = evaluation()["analysis"]["solved_by_none"]["sampled"]
    # First samples: pretrained solves 0, 3, 6, 9 and finetuned 1, 4, 7, 10; the second only 5.
    assert found["failed"] == 4
    assert found["switch"]["mean"] == 1.0
    assert found["any single again"]["mean"] == 0.25


def test_leave_one_out_sets_alone_beside_what_is_added() -> None:
    found = evaluation()["analysis"]["leave_one_out"]["pretrained"]
    assert found["alone"]["mean"] == pytest.approx(1 / 3)
    assert found["adds"]["mean"] == 0.5


def test_examples_are_of_every_kind() -> None:
    kinds = {one["kind"] for one in evaluation()["analysis"]["examples"]}
    assert kinds == {"a single solves it too"}
    failing = {one["kind"] for one in evaluation(ours=0.0)["analysis"]["examples"]}
    assert failing == {"switching fails"}
