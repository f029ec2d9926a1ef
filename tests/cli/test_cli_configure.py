from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Cli

from langgraph_switch.config import SwitchConfig

_PAIR = ("--candidate", "pretrained=user/base", "--candidate", "aligned=user/chat")


def _shown(cli: Cli, *options: str) -> SwitchConfig:
    done = cli("run", "--show-config", *options)
    assert done.exit_code == 0, done.output
    return SwitchConfig.from_dict(json.loads(done.stdout))


def test_options_reach_their_fields(cli: Cli) -> None:
    config = _shown(
        cli, *_PAIR, "--max-tokens", "99", "--segment", "7", "--seed", "3", "--temperature", "0.5",
        "--stop", "a", "--stop", "b", "--device", "cpu", "--dtype", "float32", "--batch-size", "4",
        "--switcher", "user/switcher",
    )  # fmt: skip
    assert config.names == ("pretrained", "aligned")
    assert [c.role for c in config.candidates] == ["pretrained", "aligned"]
    assert {(c.device, c.dtype) for c in config.candidates} == {("cpu", "float32")}
    assert (config.max_tokens, config.segment.max_tokens, config.seed) == (99, 7, 3)
    assert config.sampling.temperature == 0.5
    assert config.stop == ("a", "b")
    assert config.limits.live_traces == 4
    assert config.switcher.kind == "lm"
    assert (config.switcher.model, config.switcher.device) == ("user/switcher", "cpu")


def test_temperature_overrides_a_candidate_s_own(cli: Cli) -> None:
    own = "candidates.aligned.sampling.temperature=0.9"
    path_config = _shown(cli, *_PAIR, "--set", own)
    assert path_config.candidate("aligned").sampling is not None


def test_any_field_can_be_set(cli: Cli) -> None:
    config = _shown(
        cli, *_PAIR, "--set", "candidates.aligned.eos=mask", "--set", "anchor.first=false",
        "--set", 'switcher={"kind": "fixed", "order": ["aligned"]}', "--set",
        "candidates.0.prompt.plain_template=Q: {query} A:",
    )  # fmt: skip
    assert config.candidate("aligned").eos == "mask"
    assert config.anchor.first is False
    assert config.switcher.kind == "fixed"
    assert config.candidates[0].prompt.plain_template == "Q: {query} A:"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--candidate", "x"), "not of the form NAME=MODEL"),
        (("--candidate", "a=x"), "at least 2 candidates"),
        ((*_PAIR, "--candidate", "aligned=y"), "duplicate candidate name"),
        ((*_PAIR, "--config", "switch.json"), "--config and --candidate"),
        (("--config", "/no/such.json"), "no configuration at '/no/such.json'"),
        ((*_PAIR, "--max-tokens", "0"), "max_tokens"),
        ((*_PAIR, "--temperature", "-1"), "sampling.temperature"),
        ((*_PAIR, "--set", "segmnt.max_tokens=1"), "segmnt"),
        ((*_PAIR, "--set", "segment.max_tokens"), "KEY.PATH=JSON"),
        ((*_PAIR, "--set", "candidates.nobody.eos=mask"), "no 'nobody'"),
        ((*_PAIR, "--set", "candidates.0=1"), "no such field"),
        ((*_PAIR, "--output", "x.jsonl", "hi"), "exclude each other"),
        ((*_PAIR, "--output", "x.jsonl"), "--output needs --input"),
    ],
)
def test_a_bad_configuration_is_exit_code_2(
    cli: Cli, options: tuple[str, ...], message: str
) -> None:
    done = cli("run", *options)
    assert done.exit_code == 2, done.output
    assert message in done.stderr
    assert "Fix:" in done.stderr
    assert "Traceback" not in done.output


def test_a_shown_configuration_can_be_used_from_anywhere(
    cli: Cli, candidates: list[str], family: dict[str, Path], tmp_path: Path
) -> None:
    home = family["aligned"].parent
    config = _shown(cli, *candidates)
    data = config.to_dict()
    for spec in data["candidates"]:
        spec["model"] = f"./{spec['name']}"  # Beside the file.
    (home / "switch.json").write_text(json.dumps(data), encoding="utf-8")
    shown = cli("run", "--config", home, "--show-config").stdout
    (tmp_path / "switch.json").write_text(shown, encoding="utf-8")
    first = cli("run", "--config", home, "--json", "Why?")
    second = cli("run", "--config", tmp_path, "--json", "Why?")
    assert first.exit_code == 0, first.output
    assert json.loads(first.stdout)["text"] == json.loads(second.stdout)["text"]
