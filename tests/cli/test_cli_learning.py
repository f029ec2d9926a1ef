"""rollout -> train -> evaluate -> distill, as a user types it, on the embedded family."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Cli

from langgraph_switch import SwitchConfig

TASK = ("--family", "tiny", "--task", "tiny/compose")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


def done(cli: Cli, *arguments: str) -> str:
    result = cli(*arguments)
    assert result.exit_code == 0, result.output
    return str(result.output)


def rollout(cli: Cli, out: Path, *options: str) -> str:
    small = ("--queries", "24", "--completions", "2", "--in-flight", "12")
    return done(
        cli, "rollout", *TASK, *small, "--completer", "anchored", *options, "--out", str(out)
    )


def test_rollout_writes_shards_and_is_not_repeated(cli: Cli, runs: Path) -> None:
    out = runs / "rollouts"
    output = rollout(cli, out)
    assert "24 rows" in output
    assert "144 completions" in output
    shards = sorted(out.glob("*.parquet"))
    assert [shard.name for shard in shards] == ["shard-00000.parquet", "shard-00001.parquet"]
    before = [shard.stat().st_mtime_ns for shard in shards]
    assert "24 of 24 queries are done already" in rollout(cli, out)
    assert [shard.stat().st_mtime_ns for shard in shards] == before


def test_another_run_in_the_same_folder_is_refused(cli: Cli, runs: Path) -> None:
    result = cli(
        "rollout", *TASK, "--queries", "24", "--completions", "3", "--out", str(runs / "rollouts")
    )
    assert result.exit_code == 2
    assert "settings.completions: 2 there, 3 now" in result.output
    assert "--out" in result.output


def test_train_makes_a_switch_that_runs(cli: Cli, runs: Path) -> None:
    out = runs / "switcher"
    options = ("--rows-per-step", "4", "--epochs", "2", "--keep-ties", "--soft-labels")
    output = done(
        cli, "train", "--rollouts", str(runs / "rollouts"), "--base", "aligned", *options,
        "--out", str(out),
    )  # fmt: skip
    assert "this switcher" in output
    assert SwitchConfig.load(out).names == ("pretrained", "finetuned", "aligned")
    answer = done(cli, "run", "How many legs do 3 cats have?", "--config", str(out), "--json")
    assert json.loads(answer.splitlines()[-1])["text"]
    named = done(cli, "run", "How many legs do 3 cats have?", "--switcher", str(out), "--json")
    assert json.loads(named.splitlines()[-1])["text"] == json.loads(answer.splitlines()[-1])["text"]


def test_train_a_head_that_runs_and_is_evaluated(cli: Cli, runs: Path) -> None:
    out = runs / "head"
    command = ("train", "--rollouts", str(runs / "rollouts"), "--head", "mlp", "--soft-labels")
    assert "a mlp head on 128 numbers of 'aligned'" in done(
        cli, *command, "--epochs", "3", "--out", str(out)
    )
    assert json.loads((out / "switch.json").read_text())["switcher"]["kind"] == "head"
    answer = done(cli, "run", "How many legs do 3 cats have?", "--switcher", str(out), "--json")
    assert json.loads(answer.splitlines()[-1])["text"]
    options = ("--switcher", str(out), "--questions", "4", "--quick", "--out", str(runs / "e2"))
    assert "trained switcher" in done(cli, "evaluate", *TASK, *options)
    assert "switcher" in done(cli, "inspect", str(out))
    refused = cli(*command, "--method", "lora", "--out", str(runs / "none"))
    assert refused.exit_code == 2
    assert "--head changes none" in refused.output
    refused = cli(*command, "--base", "user/model", "--out", str(runs / "none"))
    assert "one of pretrained, finetuned, aligned" in refused.output


def test_a_switcher_for_other_candidates_is_refused(cli: Cli, runs: Path) -> None:
    pair = ("--candidate", "aligned=user/a", "--candidate", "pretrained=user/p")
    result = cli("run", "--show-config", *pair, "--switcher", str(runs / "switcher"))
    assert result.exit_code == 2
    assert "was trained for pretrained, finetuned, aligned" in result.output


def test_evaluate_reports_in_words_and_pictures(cli: Cli, runs: Path) -> None:
    out = runs / "eval"
    options = ("--switcher", str(runs / "switcher"), "--questions", "8", "--quick")
    output = done(cli, "evaluate", *TASK, *options, "--out", str(out))
    assert "trained switcher" in output
    assert "report.html" in output
    evaluation = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
    assert evaluation["about"]["split"] == "test"
    assert evaluation["about"]["rollouts completed by"] == "anchored"
    assert (out / "report.html").stat().st_size > 10_000


def test_distill_makes_a_plain_model(cli: Cli, runs: Path) -> None:
    out = runs / "distilled"
    options = ("--queries", "16", "--questions", "8", "--rows-per-step", "8", "--epochs", "1")
    output = done(cli, "distill", *TASK, *options, "--out", str(out))
    assert "distilled anchor" in output
    assert (out / "model.safetensors").is_file()
    report = json.loads((out / "distillation.json").read_text(encoding="utf-8"))
    assert report["counts"] == {"queries": 16, "responses": 16, "learned_from": 16}
    assert report["provenance"]["task"]["split"] == "train"
    assert report["test"]["split"] == "test"


def test_a_second_round_is_completed_by_the_first_round_s_switcher(cli: Cli, runs: Path) -> None:
    out = runs / "rounds"
    result = cli(
        "rollout", *TASK, "--queries", "130", "--completions", "2", "--completer", "anchored",
        "--rounds", "2", "--out", str(out),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    manifests = [
        json.loads((out / f"round-{i}" / "manifest.json").read_text(encoding="utf-8"))
        for i in (1, 2)
    ]
    assert [one["settings"]["completer"] for one in manifests] == ["anchored", "switcher"]
    assert "switcher-1" in manifests[1]["config"]["switcher"]["model"]


def test_no_rollouts_is_said_with_the_command_that_makes_them(cli: Cli, tmp_path: Path) -> None:
    result = cli("train", "--rollouts", str(tmp_path), "--out", str(tmp_path / "switcher"))
    assert result.exit_code == 2
    assert "langgraph-switch rollout" in result.output
