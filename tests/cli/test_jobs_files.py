from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli, read_answers, write_lines

from langgraph_switch.config import SwitchConfig
from langgraph_switch.errors import InputError
from langgraph_switch.jobs import AnswerFile, Job
from langgraph_switch.jobs.lines import parse_line

CONFIG = SwitchConfig.from_dict(
    {"candidates": [{"name": "a", "model": "x"}, {"name": "b", "model": "y"}], "seed": 1}
)


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "questions.jsonl", [{"query": f"Q{n}"} for n in range(4)])


def test_one_bad_line_never_loses_the_others(
    cli: Cli, candidates: list[str], tmp_path: Path
) -> None:
    good: dict[int, Any] = {
        1: {"query": "One?", "id": "a", "reference": 3},
        3: "A string?",
        5: {"input": "Input?", "seed": 7, "max_tokens": 9},
        6: {"messages": [{"role": "user", "content": "Message?"}], "stop": ["\n"]},
        16: {"query": "Last?"},
    }
    bad = [
        'raw:{"query": "broken', {"query": ""}, {"query": "x", "input": "y"}, [1], {"id": 3},
        {"query": "too long", "max_tokens": 5000}, {"query": "half \ud800"}, {"messages": 5},
        {"query": 5}, {"query": "x", "stop": 5}, 'raw:{"query": "x", "n": NaN}',
    ]  # fmt: skip
    numbers = [number for number in range(1, 17) if number not in good]
    lines = good | dict(zip(numbers, bad, strict=True))
    path = write_lines(tmp_path / "q.jsonl", [lines[number] for number in sorted(lines)])
    output = tmp_path / "a.jsonl"
    done = cli("run", *candidates, "--input", path, "--output", output)
    assert done.exit_code == 1
    answers = read_answers(output)
    assert sorted(answers) == sorted(good)
    for number in numbers:
        assert done.stderr.count(f"Line {number}: ") == 1
    assert "11 lines have no answer" in done.stderr
    assert (answers[1]["id"], answers[1]["extra"]) == ("a", {"reference": 3})
    assert answers[3]["query"] == "A string?"
    assert (answers[5]["seed"], answers[5]["trace"]["max_tokens"]) == (7, 9)
    assert answers[6]["query"] == lines[6]["messages"]
    assert {"text", "finish_reason", "seed", "trace", "query", "id"} <= answers[16].keys()


def test_blank_lines_and_a_byte_order_mark_are_nothing(
    cli: Cli, candidates: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "q.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"query": "One?"}\r\n\r\n  \n"Two\\u2028\\u0085?"')
    done = cli("run", *candidates, "--input", path)
    assert done.exit_code == 0, done.output
    assert {json.loads(line)["line"] for line in done.stdout.splitlines()} == {1, 4}


def test_a_line_s_answer_is_what_it_is_alone(
    cli: Cli, candidates: list[str], questions: Path, tmp_path: Path
) -> None:
    cli("run", *candidates, "--input", questions, "--output", tmp_path / "a", "--batch-size", "3")
    alone = json.loads(cli("run", *candidates, "--json", "Q2").stdout)
    assert read_answers(tmp_path / "a")[3]["text"] == alone["text"]


def test_nothing_is_answered_twice(
    cli: Cli, candidates: list[str], questions: Path, tmp_path: Path
) -> None:
    command = ["run", *candidates, "--input", questions, "--output", tmp_path / "a.jsonl"]
    assert cli(*command).exit_code == 0
    before = (tmp_path / "a.jsonl").read_bytes()
    again = cli(*command)
    assert (again.exit_code, again.stdout) == (0, "")
    assert "4 of 4 lines are answered already; 0 to go" in again.stderr
    assert (tmp_path / "a.jsonl").read_bytes() == before
    with questions.open("a", encoding="utf-8") as file:
        file.write('"One more?"\n')
    assert "1 to go" in cli(*command, "--batch-size", "7").stderr  # Memory is no difference.
    assert (tmp_path / "a.jsonl").read_bytes().startswith(before)
    assert sorted(read_answers(tmp_path / "a.jsonl")) == [1, 2, 3, 4, 5]


def test_another_configuration_is_refused_and_named(
    cli: Cli, candidates: list[str], questions: Path, tmp_path: Path
) -> None:
    output = tmp_path / "a.jsonl"
    command = ["run", *candidates, "--input", questions, "--output", output]
    cli(*command)
    before = output.read_bytes()
    other = cli(*command, "--seed", "2", "--temperature", "0")
    assert other.exit_code == 2
    assert "seed: 1 then, 2 now" in other.stderr
    assert "sampling.temperature: 0.7 then, 0.0 now" in other.stderr
    assert "--overwrite" in other.stderr
    assert output.read_bytes() == before
    (tmp_path / "a.jsonl.switch.json").unlink()
    assert cli(*command, "--seed", "2").exit_code == 2
    assert cli(*command, "--seed", "2", "--overwrite").exit_code == 0
    assert {a["seed"] for a in read_answers(output).values()} == {2}
    assert len(read_answers(output)) == 4


def test_the_configuration_beside_the_answers_makes_them_again(
    cli: Cli, candidates: list[str], questions: Path, tmp_path: Path
) -> None:
    output, again = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    cli("run", *candidates, "--input", questions, "--output", output)
    config = tmp_path / "a.jsonl.switch.json"
    assert cli("run", "--config", config, "--input", questions, "--output", again).exit_code == 0
    assert read_answers(again) == read_answers(output)


def test_changed_questions_are_refused(
    cli: Cli, candidates: list[str], questions: Path, tmp_path: Path
) -> None:
    command = ["run", *candidates, "--input", questions, "--output", tmp_path / "a.jsonl"]
    cli(*command)
    write_lines(questions, ["Q0", "changed"])
    done = cli(*command)
    assert done.exit_code == 2
    assert "has changed since it was answered" in done.stderr


def test_a_foreign_file_is_never_touched(
    cli: Cli, candidates: list[str], questions: Path, tmp_path: Path
) -> None:
    for content in ("my diary\n", "my diary", '{"a": 1}\n'):
        (tmp_path / "diary").write_text(content, encoding="utf-8")
        done = cli("run", *candidates, "--input", questions, "--output", tmp_path / "diary")
        assert done.exit_code == 2
        assert "--overwrite" in done.stderr
        assert (tmp_path / "diary").read_text(encoding="utf-8") == content
    same = cli("run", *candidates, "--input", questions, "--output", questions, "--overwrite")
    assert same.exit_code == 2


def test_overwriting_waits_for_the_first_answer(
    cli: Cli, candidates: list[str], questions: Path, tmp_path: Path
) -> None:
    output = tmp_path / "a.jsonl"
    files = ["--input", questions, "--output", output]
    cli("run", *candidates, *files)
    before = output.read_bytes()
    broken = ["--candidate", "a=/no/such", "--candidate", "b=/no/such"]
    assert cli("run", *broken, *files, "--overwrite").exit_code == 2
    assert output.read_bytes() == before


def test_two_runs_never_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with (
        AnswerFile(path, CONFIG),
        pytest.raises(InputError, match="Another run is writing"),
    ):
        AnswerFile(path, CONFIG)
    AnswerFile(path, CONFIG).close()


@pytest.mark.parametrize("cut", [1, 5, 20, 60])
def test_a_half_written_line_is_dropped(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.jsonl"
    jobs = [Job(line=n, digest=str(n), query={"query": "?"}) for n in (1, 2)]
    with AnswerFile(path, CONFIG) as answers:
        for job in jobs:
            answers.append(job, {"text": "caf\u00e9"})
    first, second, _ = path.read_bytes().split(b"\n")
    path.write_bytes(first + b"\n" + second[:cut])
    with AnswerFile(path, CONFIG) as answers:
        assert answers.pending(jobs) == jobs[1:]
        answers.append(jobs[1], {"text": "caf\u00e9"})
    assert path.read_bytes() == first + b"\n" + second + b"\n"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"\xff\xfe", "no valid UTF-8"),
        (b"[" * 100_000, "no valid JSON"),
        (b'{"query": ' + b"9" * 10_000 + b"}", "no valid JSON"),
        (b"null", "NoneType"),
    ],
)
def test_strange_lines_are_input_errors(raw: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_line(1, raw)
