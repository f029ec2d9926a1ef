from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from langgraph_switch.errors import ConfigError, InputError
from langgraph_switch.scoring import FunctionScore
from langgraph_switch.tasks import load_task, register_task
from langgraph_switch.tasks.load import task_names

ROWS: list[dict[str, Any]] = [
    {"query": f"What is {i} plus {i}?", "answer": str(2 * i), "split": split}
    for i, split in enumerate(["train"] * 6 + ["dev"] * 2 + ["test"] * 4)
]


def write_jsonl(path: Path, rows: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def sizes(task: Any) -> dict[str, int]:
    return {name: len(rows) for name, rows in task.splits.items()}


def test_jsonl_rows_name_their_split(tmp_path: Path) -> None:
    task = load_task(write_jsonl(tmp_path / "sums.jsonl", ROWS), score="numeric")
    assert sizes(task) == {"train": 6, "dev": 2, "test": 4}
    assert (task.train_split, task.test_split) == ("train", "test")
    first = task.split("test")[0]
    assert first.query == "What is 8 plus 8?"
    assert first.references == ("16",)
    right, wrong = task.judge([first] * 2, ["The answer is 16.", "The answer is 61."])
    assert (right.value, wrong.value) == (1.0, 0.0)


def test_a_folder_holds_a_file_per_split(tmp_path: Path) -> None:
    for split in ("train", "test"):
        rows = [{k: v for k, v in row.items() if k != "split"} for row in ROWS]
        chosen = [row for row, whole in zip(rows, ROWS, strict=True) if whole["split"] == split]
        write_jsonl(tmp_path / f"{split}.jsonl", chosen)
    assert sizes(load_task(tmp_path, score="numeric")) == {"train": 6, "test": 4}


def test_the_toolkits_layout_names_its_score(tmp_path: Path) -> None:
    file = tmp_path / "trivia.json"
    options = {"A": "ants", "B": "bees"}
    row = {"input": "Who makes honey?", "choices": options, "output": "B"}
    other = {"input": "Who has a queen and no wings?", "choices": options, "output": "A"}
    file.write_text(
        json.dumps({"task_type": "multiple_choice", "dev": [row], "test": [other]}),
        encoding="utf-8",
    )
    task = load_task(file)
    assert task.score.name == "multiple_choice"
    assert task.train_split == "dev"
    (example,) = task.split("test")
    assert "A" in example.query
    assert "ants" in example.query
    assert task.judge([example], ["The answer is (A)."])[0].value == 1.0
    assert task.judge([example], ["A bee has one, so B."])[0].value == 0.0


def test_aliases_written_as_a_list_in_text(tmp_path: Path) -> None:
    file = tmp_path / "facts.json"
    row = {"input": "Who?", "output": '["Ada Lovelace", "Lovelace"]'}
    file.write_text(json.dumps({"task_type": "f1_match", "test": [row]}), encoding="utf-8")
    task = load_task(file)
    assert task.split("test")[0].references == ("Ada Lovelace", "Lovelace")
    assert task.judge(task.split("test"), ["Lovelace"])[0].value == 1.0


def test_parquet_is_read_by_datasets(tmp_path: Path) -> None:
    file = tmp_path / "sums.parquet"
    datasets.Dataset.from_list(ROWS).to_parquet(str(file))
    assert sizes(load_task(file, score="numeric")) == {"train": 6, "dev": 2, "test": 4}


def test_unusual_fields_are_named(tmp_path: Path) -> None:
    file = write_jsonl(
        tmp_path / "odd.jsonl", [{"text": "one plus one?", "gold": 2, "part": "test"}]
    )
    task = load_task(
        file, score="numeric", fields={"query": "text", "references": "gold", "split": "part"}
    )
    assert task.split("test")[0].references == ("2",)
    with pytest.raises(ConfigError, match="no 'txt' to be named"):
        load_task(file, score="numeric", fields={"txt": "text"})


def test_a_question_is_never_in_two_splits(tmp_path: Path) -> None:
    rows = [*ROWS, ROWS[-1] | {"split": "train"}, ROWS[-1] | {"split": "dev"}]
    task = load_task(write_jsonl(tmp_path / "sums.jsonl", rows), score="numeric")
    assert sizes(task) == {"train": 6, "dev": 2, "test": 4}
    assert task.left_out == {"train": 1, "dev": 1}
    assert task.record()["left_out"] == {"train": 1, "dev": 1}


def test_a_source_without_splits_is_divided_by_its_questions(tmp_path: Path) -> None:
    rows = [{"query": f"question {i}", "answer": "x"} for i in range(200)]
    file = write_jsonl(tmp_path / "all.jsonl", rows)
    task = load_task(file, score="exact_match", test_fraction=0.25)
    assert sum(sizes(task).values()) == 200
    assert 30 <= sizes(task)["test"] <= 70
    more = load_task(
        write_jsonl(tmp_path / "more.jsonl", [*rows, {"query": "new", "answer": "x"}]),
        score="exact_match",
        test_fraction=0.25,
    )
    before = {one.query for one in task.split("test")}
    assert before <= {one.query for one in more.split("test")} | {"new"}


def test_a_smaller_sample_is_part_of_a_larger_one(tmp_path: Path) -> None:
    rows = [{"query": f"q{i}", "answer": "x", "split": "train"} for i in range(50)]
    file = write_jsonl(tmp_path / "all.jsonl", rows)
    small, large, other = (
        {one.id for one in load_task(file, score="exact_match", limit=n, seed=s).split("train")}
        for n, s in ((5, 1), (20, 1), (5, 2))
    )
    assert len(small) == 5
    assert small < large
    assert small != other


@pytest.mark.parametrize(
    ("rows", "score", "message"),
    [
        ([{"query": "q", "split": "test"}], "numeric", "needs right answers"),
        ([{"answer": "1", "split": "test"}], "numeric", "asks nothing|query"),
        ([{"query": "q", "answer": "1"}, "no row"], "numeric", "line 2"),
        ([{"query": "a", "answer": "1", "id": 7}, {"query": "b", "answer": "1", "id": 7}],
         "numeric", "id '7'"),
    ],
)  # fmt: skip
def test_bad_rows_are_refused_with_their_place(
    tmp_path: Path, rows: list[Any], score: str, message: str
) -> None:
    with pytest.raises((InputError, ConfigError), match=message) as info:
        load_task(write_jsonl(tmp_path / "bad.jsonl", rows), score=score)
    assert info.value.hint


def test_an_empty_split_and_a_missing_one_are_told_apart(tmp_path: Path) -> None:
    file = tmp_path / "half.json"
    file.write_text(
        json.dumps({"task_type": "numeric", "dev": [], "test": [{"input": "q", "output": "1"}]}),
        encoding="utf-8",
    )
    task = load_task(file)
    with pytest.raises(InputError, match=r"'train' of task 'half' .* does not exist"):
        _ = task.train_split
    with pytest.raises(InputError, match=r"'dev' of task 'half' .* is empty"):
        task.split("dev")


def test_names_that_mean_nothing_list_those_that_do() -> None:
    with pytest.raises(InputError, match="no task 'tiny/composed'") as info:
        load_task("tiny/composed")
    assert "tiny/compose" in info.value.hint


def test_tasks_can_be_registered() -> None:
    name = "tests/registered"
    task = load_task("tiny/compose")
    register_task(name, lambda: task)
    assert name in task_names()
    own = FunctionScore(lambda _: 0.5, name="half")
    assert load_task(name, score=own).score.name == "half"
    with pytest.raises(ConfigError, match="taken"):
        register_task(name, lambda: task)


def test_the_embedded_tasks_keep_their_pools_apart() -> None:
    task = load_task("tiny/compose")
    assert sizes(task) == {"train": 2500, "dev": 600, "test": 800}
    facts = {
        split: {one.meta["cluster"] for one in examples} for split, examples in task.splits.items()
    }
    assert not facts["train"] & facts["test"]
    assert not facts["dev"] & facts["test"]
    assert set(sizes(load_task("tiny/mixed"))) == {"train", "dev", "test"}


def test_the_record_is_about_the_split_that_was_read() -> None:
    task = load_task("tiny/compose")
    train = task.record("train")
    assert train["splits"] == {"train": 2500}
    assert train["score"] == {"name": "numeric"}
    assert train["digest"] == task.sample(10_000).record("train")["digest"]
    assert train["digest"] != task.record("test")["digest"]


def test_a_data_set_that_cannot_be_reached_says_what_to_do() -> None:
    with pytest.raises(InputError, match="Cannot load the data set") as info:
        load_task("hf://datasets/nobody/nothing", score="numeric")
    assert "local folder" in info.value.hint
