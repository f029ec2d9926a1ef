from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from rollout_rows import NAMES, learnable_rows, row, write_rollouts
from tiny_models import (
    TEMPLATE,
    byte_tokenizer,
    make_engine,
    merging_tokenizer,
    metaspace_tokenizer,
    random_model,
    switch_config,
)

from langgraph_switch.config import Sampling
from langgraph_switch.engines.tokenizer import HFTokenizer
from langgraph_switch.errors import ConfigError
from langgraph_switch.families import embedded_config
from langgraph_switch.offline.shards import ShardFolder
from langgraph_switch.offline.training_rows import (
    RowEncoder,
    RowSettings,
    RowSplit,
    is_held_out,
    load_rollouts,
    prefix_trace,
    split_rows,
)
from langgraph_switch.switchers.base import Turn
from langgraph_switch.switchers.lm import LMSwitcher

TWELVE = tuple("abcdefghijkl")
BYTES = HFTokenizer(byte_tokenizer())
UNEQUAL = [[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]]
TIED = [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]
FAILED: list[list[float | None]] = [[None], [1.0], [1.0]]


def encoder(tokenizer: Any = BYTES, names: Any = NAMES, **settings: Any) -> RowEncoder:
    return RowEncoder(tokenizer, names, RowSettings(**settings), temperature=0.5)


def split(folder: Path, *, max_tokens: int = 2000, **settings: Any) -> RowSplit:
    return split_rows(
        load_rollouts([folder]), RowSettings(**settings), encoder(**settings), max_tokens=max_tokens
    )


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (byte_tokenizer, "plain"),
        (byte_tokenizer, "chat"),
        (merging_tokenizer, "plain"),
        (merging_tokenizer, "chat"),
        (metaspace_tokenizer, "plain"),
    ],
)
def test_what_is_trained_on_is_token_for_token_what_is_served(make: Any, kind: Any) -> None:
    tokenizer = HFTokenizer(make(TEMPLATE) if kind == "chat" else make())
    engine = make_engine(random_model(vocab_size=450))
    engine._tokenizer = tokenizer
    asked: list[Any] = []
    engine.label_logprobs = lambda requests: asked.extend(requests) or [(0.0,) * 3] * len(requests)
    switcher = LMSwitcher(
        engine, NAMES, prompt=kind, sampling=Sampling(temperature=1), segment_tokens=6
    )
    rows = learnable_rows(4)
    for number, one in enumerate(rows):  # One by one: equal prompts are asked once.
        switcher.probabilities([Turn(prefix_trace(one), str(number))])
    made = [encoder(tokenizer, prompt=kind).encode(one) for one in rows]
    for one, found, request in zip(rows, made, asked, strict=True):
        label = request.labels[one["label"]]
        assert found["input_ids"] == [*request.prefix, *label]
        assert found["labels"] == [-100] * len(request.prefix) + list(label)
        assert found["label_ids"] == [ids[0] for ids in request.labels]


def test_labels_of_several_tokens_are_plain_rows_and_learn_where_to_end() -> None:
    config = switch_config(TWELVE)
    made = encoder(names=TWELVE)
    assert not made.has_single_token_labels
    scores = [[[float(i == best)] for i in range(12)] for best in (1, 3, 10)]
    one, three, ten = (made.encode(row("q", "hello", some, config=config)) for some in scores)
    assert "label_ids" not in one
    ends = [BYTES.decode([t for t in found["labels"] if t != -100]) for found in (one, three, ten)]
    assert ends == ["1.", "3", "10"]  # "1" begins "10": it must learn not to go on.
    with pytest.raises(ConfigError, match="Soft labels need labels of one token") as caught:
        encoder(names=TWELVE, soft_labels=True)
    assert "hard labels" in caught.value.hint


def test_hard_labels_are_one_hot_and_soft_ones_the_softmax_of_the_means() -> None:
    one = row("q", "hello", UNEQUAL)
    assert encoder().encode(one)["label_probabilities"] == [0, 1, 0]
    weights = [math.exp(mean / 0.5) for mean in (0.5, 1, 0)]
    found = encoder(soft_labels=True).encode(one)["label_probabilities"]
    assert found == pytest.approx([weight / sum(weights) for weight in weights])
    colder = encoder(soft_labels=True, soft_label_temperature=0.01).encode(one)
    assert colder["label_probabilities"] == pytest.approx([0, 1, 0], abs=1e-9)
    assert colder["input_ids"] == encoder().encode(one)["input_ids"]


def test_the_temperature_is_by_default_that_of_the_rollouts(tmp_path: Path) -> None:
    write_rollouts(tmp_path, learnable_rows(4))
    assert load_rollouts([tmp_path]).soft_label_temperature == 0.15


def test_ties_failures_and_long_rows_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = [
        row("a", "a", UNEQUAL),
        row("b", "b", TIED),
        row("c", "c", FAILED),
        row("d", "d" * 500, UNEQUAL),
    ]
    write_rollouts(tmp_path, rows)
    found = split(tmp_path, holdout=0, max_tokens=400)
    assert len(found.training) == 1
    assert found.counts == {
        "rows": 4,
        "failed": 1,
        "ties": 1,
        "ties_left_out": 1,
        "too_long": 1,
        "training": 1,
        "training_queries": 1,
        "held_out": 0,
        "held_out_queries": 0,
        "labels": {"pretrained": 0, "finetuned": 1, "aligned": 0},
    }
    assert any("nothing is measured" in one for one in found.warnings)
    kept = split(tmp_path, holdout=0, keep_ties=True)
    assert (kept.counts["training"], kept.counts["ties_left_out"]) == (3, 0)


def test_queries_are_held_out_whole_and_alike_in_every_round(tmp_path: Path) -> None:
    write_rollouts(tmp_path / "1", learnable_rows(400))
    found = split(tmp_path / "1", holdout=0.25)
    counts = found.counts
    assert counts["training"] + counts["held_out"] == 400
    assert counts["training_queries"] + counts["held_out_queries"] == 200
    assert 0.15 < counts["held_out"] / 400 < 0.35
    held_out = {one["query_id"] for one in found.held_out}
    write_rollouts(tmp_path / "2", learnable_rows(300, seed=1))
    later = split(tmp_path / "2", holdout=0.25)
    assert {one["query_id"] for one in later.held_out} == {
        name for name in held_out if int(name[1:]) < 150
    }
    other_seed = RowSettings(holdout=0.25, seed=1)
    assert {f"q{i}" for i in range(200) if is_held_out(f"q{i}", other_seed)} != held_out


def test_one_label_everywhere_is_warned_of(tmp_path: Path) -> None:
    write_rollouts(tmp_path, [row(f"q{i}", "hello", UNEQUAL) for i in range(20)])
    warnings = split(tmp_path).warnings
    assert any("Every training row has the label 'finetuned'" in one for one in warnings)


def test_several_rounds_are_read_in_order(tmp_path: Path) -> None:
    folders = [
        write_rollouts(tmp_path / str(i), learnable_rows(4 + i, seed=i), config=config)
        for i, config in enumerate([embedded_config(), embedded_config().with_changes(stop=("X",))])
    ]
    source = load_rollouts(folders)
    assert source.rows_by_folder == (4, 5)
    assert len(source.rows) == 9
    assert source.config.stop == ("X",)
    assert "differ in stop" in source.warnings[0]
    assert [one.model for one in source.config.candidates] == [
        f"embedded:{name}" for name in source.config.names
    ]
    for one in source.config.candidates:
        assert Path(source.config.resolve_model(one.model)).is_dir()


def test_other_candidates_are_refused_and_what_differs_is_said(tmp_path: Path) -> None:
    config = embedded_config()
    first = write_rollouts(tmp_path / "1", learnable_rows(4))
    turned = config.with_changes(candidates=config.candidates[::-1])
    order = write_rollouts(tmp_path / "2", learnable_rows(4), config=turned)
    with pytest.raises(ConfigError, match="aligned, finetuned, pretrained here") as caught:
        load_rollouts([first, order])
    assert "same order" in caught.value.hint
    specs = [one.model_copy(update={"model": "user/x"}) for one in config.candidates[:1]]
    other = config.with_changes(candidates=(*specs, *config.candidates[1:]))
    weights = write_rollouts(tmp_path / "3", learnable_rows(4), config=other)
    with pytest.raises(ConfigError, match=r"pretrained\.model: .* there, 'user/x' here"):
        load_rollouts([first, weights])


def test_folders_without_rollouts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no manifest\.json"):
        load_rollouts([tmp_path])
    with pytest.raises(ConfigError, match="No folder"):
        load_rollouts([])
    empty = write_rollouts(tmp_path / "empty", [])
    with pytest.raises(ConfigError, match="holds no rows yet") as caught:
        load_rollouts([empty])
    assert "langgraph-switch rollout" in caught.value.hint
    full = write_rollouts(tmp_path / "full", learnable_rows(2))
    with pytest.raises(ConfigError, match="twice"):
        load_rollouts([full, full])
    ShardFolder(tmp_path / "other", {"kind": "responses"})
    ShardFolder(tmp_path / "other", {"kind": "responses"}).write(0, [{"x": 1}])
    with pytest.raises(ConfigError, match="'responses', not rollouts"):
        load_rollouts([tmp_path / "other"])


def test_local_weights_named_beside_nothing_are_refused(tmp_path: Path) -> None:
    folder = write_rollouts(tmp_path / "r", learnable_rows(2))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["config"]["candidates"][0]["model"] = "./pretrained"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ConfigError, match="without saying beside what"):
        load_rollouts([folder])
    (folder / "pretrained").mkdir()
    config = load_rollouts([folder]).config
    assert config.candidates[0].model == str(folder.resolve() / "pretrained")


def test_soft_labels_learn_from_a_tie_whom_not_to_choose(tmp_path: Path) -> None:
    rows = [
        row("a", "a", [[1, 1], [1, 1], [0, 0]]),
        row("b", "b", [[1, 0], [1, 0], [0, 1]]),
    ]
    write_rollouts(tmp_path, rows)
    assert split(tmp_path, holdout=0).counts["ties_left_out"] == 2
    soft = split(tmp_path, holdout=0, soft_labels=True)
    assert soft.counts["ties_left_out"] == 1, "all equal teaches nothing"
    first, second, third = soft.training[0]["label_probabilities"]
    assert first == second > third
