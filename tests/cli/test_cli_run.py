from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_models import save_model
from conftest import Cli

from langgraph_switch import SwitchLLM
from langgraph_switch.cli import run as run_module
from langgraph_switch.engines.scripted import ScriptedEngine
from langgraph_switch.errors import EngineError


def test_stdout_is_the_answer_alone_and_stderr_says_who_wrote_it(
    cli: Cli, candidates: list[str]
) -> None:
    done = cli("run", *candidates, "How many?")
    assert done.exit_code == 0, done.output
    as_json = json.loads(cli("run", *candidates, "--json", "How many?").stdout)
    assert done.stdout.removesuffix("\n") == as_json["text"].removesuffix("\n")
    for word in ("speaker", "tokens", "aligned", "anchor", "random", "40 tokens", "seed 1"):
        assert word in done.stderr
    assert "drawn at random" in done.stderr
    assert "\x1b" not in done.stderr


def test_json_is_one_object_with_everything(cli: Cli, candidates: list[str]) -> None:
    done = cli("run", *candidates, "--json", "Why?")
    answer = json.loads(done.stdout)
    assert list(answer) == ["text", "finish_reason", "seed", "usage", "trace"]
    assert answer["seed"] == 1
    assert answer["finish_reason"] == "length"
    assert answer["usage"]["output_tokens"] == 40
    assert "".join(s["text"] for s in answer["trace"]["segments"]) == answer["text"]
    assert done.stdout.count("\n") == 1


def test_quiet_leaves_stderr_empty(cli: Cli, candidates: list[str]) -> None:
    done = cli("run", *candidates, "-q", "Why?")
    assert done.exit_code == 0
    assert done.stderr == ""


def test_question_from_a_pipe(cli: Cli, candidates: list[str]) -> None:
    piped = cli("run", *candidates, "--json", stdin="Why?\n")
    named = cli("run", *candidates, "--json", "Why?")
    assert json.loads(piped.stdout)["text"] == json.loads(named.stdout)["text"]


@pytest.mark.parametrize("stdin", ["", "\n", "  \n"])
def test_empty_question_is_refused(cli: Cli, candidates: list[str], stdin: str) -> None:
    done = cli("run", *candidates, stdin=stdin)
    assert done.exit_code == 2
    assert "The query is empty" in done.stderr
    assert "Fix:" in done.stderr
    assert done.stdout == ""


def test_too_long_a_response_is_refused(cli: Cli, candidates: list[str]) -> None:
    done = cli("run", *candidates, "--max-tokens", "5000", "Why?")
    assert done.exit_code == 2
    assert "set max_tokens to at most" in done.stderr


@pytest.mark.parametrize(
    ("switcher", "decided_by"), [("finetuned", "switcher"), ("random", "random")]
)
def test_switcher_by_name(cli: Cli, candidates: list[str], switcher: str, decided_by: str) -> None:
    done = cli("run", *candidates, "--switcher", switcher, "--json", "Why?")
    segments = json.loads(done.stdout)["trace"]["segments"]
    assert {s["decided_by"] for s in segments} == {"anchor", decided_by}
    assert "drawn at random" not in done.stderr


def test_switcher_by_folder_of_a_model(
    cli: Cli, candidates: list[str], family: dict[str, Path]
) -> None:
    done = cli("run", *candidates, "--switcher", family["pretrained"], "--json", "Why?")
    named = cli("run", *candidates, "--switcher", "pretrained", "--json", "Why?")
    assert json.loads(done.stdout)["text"] == json.loads(named.stdout)["text"]


def test_switcher_by_folder_of_an_adapter(
    cli: Cli, candidates: list[str], family: dict[str, Path], tmp_path: Path
) -> None:
    peft = pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    base = transformers.AutoModelForCausalLM.from_pretrained(family["aligned"])
    config = peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"])
    peft.get_peft_model(base, config).save_pretrained(tmp_path / "adapter")
    done = cli("run", *candidates, "--switcher", tmp_path / "adapter", "--json", "Why?")
    assert done.exit_code == 0, done.output
    segments = json.loads(done.stdout)["trace"]["segments"]
    assert "switcher" in {s["decided_by"] for s in segments}
    shown = json.loads(
        cli("run", *candidates, "--switcher", tmp_path / "adapter", "--show-config").stdout
    )
    assert shown["switcher"]["candidate"] == "aligned"


def test_stop_and_temperature(cli: Cli, candidates: list[str]) -> None:
    greedy = [*candidates, "--temperature", "0", "--json", "Why?"]
    text = json.loads(cli("run", *greedy).stdout)["text"]
    stop = text[10:12]
    stopped = json.loads(cli("run", *greedy, "--stop", stop).stdout)
    assert stopped["finish_reason"] == "stop"
    assert stopped["text"] == text[: text.index(stop)]


def test_what_may_surprise_is_a_warning(cli: Cli, family: dict[str, Path], tmp_path: Path) -> None:
    plain = save_model(tmp_path / "plain", 5, template=None)
    done = cli(
        "run", "--candidate", f"pretrained={family['pretrained']}", "--candidate",
        f"aligned={plain}", "--max-tokens", "4", "Why?",
    )  # fmt: skip
    assert done.exit_code == 0
    assert done.stderr.count("Warning: candidate 'aligned' has no chat template") == 1


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let scripted engines stand in for models."""

    def install(**engines: ScriptedEngine) -> None:
        monkeypatch.setattr(run_module, "SwitchLLM", functools.partial(SwitchLLM, engines=engines))

    return install


_PAIR = [
    *("--candidate", "pretrained=x/a", "--candidate", "aligned=x/b"),
    *("--set", "candidates.aligned.prompt.kind=plain", "--switcher", "random", "--seed", "1"),
]


def test_a_pipe_gets_the_text_exactly(cli: Cli, scripted: Callable[..., None]) -> None:
    text = "[bold]5[/] \x1b[31mred\x07 caf\u00e9 \n\n  end "
    engine = ScriptedEngine([text])
    scripted(pretrained=ScriptedEngine(), aligned=engine)
    done = cli("run", *_PAIR, "Why?")
    assert done.stdout == text + "\n"
    assert "\x1b" not in done.stderr
    assert "\x07" not in done.stderr


def test_what_was_written_survives_a_broken_engine(cli: Cli, scripted: Callable[..., None]) -> None:
    def engines() -> dict[str, ScriptedEngine]:
        broken = ScriptedEngine([EngineError("it burns", hint="run")])
        return {"pretrained": broken, "aligned": ScriptedEngine(["Half a response, ", ""])}

    options = [*_PAIR, "--segment", "10", "--max-tokens", "100", "--set",
               'switcher={"kind": "fixed", "order": ["pretrained"]}',
               "--set", "failover.enabled=false"]  # fmt: skip
    scripted(**engines())
    done = cli("run", *options, "Why?")
    assert done.exit_code == 1
    assert done.stdout == "Half a res\n"
    assert "it burns" in done.stderr
    assert "broken off" in done.stderr
    scripted(**engines())
    done = cli("run", *options, "--json", "Why?")
    assert done.exit_code == 1
    answer = json.loads(done.stdout)
    assert (answer["text"], answer["finish_reason"]) == ("Half a res", None)
    assert "it burns" in answer["error"]


def test_errors_are_short_unless_debugged(cli: Cli) -> None:
    options = ["run", "--candidate", "a=/no/such", "--candidate", "b=/no/such", "Why?"]
    done = cli(*options)
    assert done.exit_code == 2
    assert "Error: Cannot load '/no/such': there is no such folder." in done.stderr
    assert "Fix: check the path" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Traceback" in cli(*options, "--debug").stderr


def test_ctrl_c_says_so(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run_module, "SwitchLLM", interrupt)
    done = cli("run", *_PAIR, "Why?")
    assert done.exit_code == 130
    assert "Interrupted" in done.stderr
