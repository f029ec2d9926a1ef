"""From rollouts to a published switch with its scores, and on from there; each by its command."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from stand_in import Hub
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner, Result

from langgraph_switch import SwitchLLM
from langgraph_switch.cli import app
from langgraph_switch.config import SwitchConfig
from langgraph_switch.errors import ConfigError
from langgraph_switch.families import embedded_config
from langgraph_switch.hub.pull import pull, pull_switch
from langgraph_switch.hub.push import push
from langgraph_switch.offline.conditions import TRAINED

pytestmark = pytest.mark.enable_socket

TINY = Path(embedded_config().resolve_model("./aligned")).parent
QUESTION = "How many legs do 3 spiders and 2 cats have in total?"


def cli(*arguments: str | Path) -> Result:
    done = CliRunner().invoke(
        app, [os.fspath(one) for one in arguments], env={"COLUMNS": "200", "NO_COLOR": "1"}
    )
    assert not isinstance(done.exception, AssertionError)
    return done


def done(*arguments: str | Path) -> str:
    found = cli(*arguments)
    assert found.exit_code == 0, found.output
    return found.stdout


@pytest.fixture(scope="module")
def rollouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rollouts")
    done(
        "rollout", "--family", "tiny", "--task", "tiny/compose", "--queries", "48",
        "--completions", "2", "--completer", "anchored", "--out", folder,
    )  # fmt: skip
    return folder


@pytest.fixture
def trained(rollouts: Path, hub: Hub, online: Path, tmp_path: Path) -> Path:
    """A switch that was trained from a repo of rollouts."""
    del hub, online
    push(rollouts, "user/rollouts")
    out = tmp_path / "switcher"
    done(
        "train", "--rollouts", "hf://datasets/user/rollouts", "--out", out,
        "--epochs", "1", "--soft-labels", "--keep-ties",
    )  # fmt: skip
    return out


@pytest.fixture
def evaluation(trained: Path, tmp_path: Path) -> Path:
    out = tmp_path / "eval"
    done("evaluate", "--config", trained, "--questions", "6", "--quick", "--out", out)
    return out


def test_shards_are_sent_once(rollouts: Path, hub: Hub, online: Path, tmp_path: Path) -> None:
    del online
    growing = tmp_path / "growing"
    shutil.copytree(rollouts, growing)
    later = growing / "shard-00002.parquet"
    aside = later.rename(tmp_path / "later")
    done("push", growing, "user/rollouts", "--type", "dataset")
    aside.rename(later)
    hub.requests.clear()
    done("push", growing, "user/rollouts", "--type", "dataset")
    assert sum(one.startswith("PUT") for one in hub.requests) == 1
    stored = hub.files("datasets/user/rollouts")
    assert sum(name.endswith(".parquet") for name in stored) == 3
    assert str(TINY) not in stored["manifest.json"].decode()
    card = stored["README.md"].decode()
    assert "48," in card
    assert "anchored" in card
    wrong = cli("push", growing, "user/rollouts", "--type", "model")
    assert "is a dataset, not a model" in wrong.stderr


def test_a_published_switch_tells_its_scores(hub: Hub, trained: Path, evaluation: Path) -> None:
    config = SwitchConfig.load(trained)
    assert [one.name for one in config.switcher.trained_on] == list(config.names)  # type: ignore[union-attr]
    assert SwitchLLM(config=config).invoke(QUESTION)
    done("push", trained, "user/legs", "--evaluation", evaluation)
    found = json.loads((evaluation / "evaluation.json").read_text(encoding="utf-8"))
    score = found["analysis"]["conditions"][TRAINED]["score"]
    card = ModelCard(hub.files("models/user/legs")["README.md"].decode())
    assert card.data.datasets == ["user/rollouts"]
    assert card.data.license == "apache-2.0"
    (told,) = [one for one in card.data.eval_results or () if one.dataset_split == "test"]
    assert told.metric_value == score["mean"]
    assert told.metric_args == {"n": 6, "low": score["low"], "high": score["high"]}
    assert 'from_pretrained("user/legs")' in card.text
    assert f"{100 * score['mean']:.1f} [{100 * score['low']:.1f}" in card.text
    assert "held-out rows of" in card.text
    published = hub.files("models/user/legs")
    for name in ("evaluation.json", "metrics.json", "README.md"):
        assert str(trained.parent) not in published[name].decode()
    assert json.loads(published["evaluation.json"])["analysis"]["examples"] == []
    shown = done("inspect", "user/legs")
    assert f"split test: numeric {100 * score['mean']:.1f} %" in shown
    assert "completed by anchored" in shown


def test_scores_travel_on_with_the_switch_that_they_are_of(
    hub: Hub, trained: Path, evaluation: Path
) -> None:
    push(trained, "user/legs", evaluation=evaluation)
    llm = SwitchLLM.from_pretrained("user/legs")
    llm.push_to_hub("user/copy")
    copied = ModelCard(hub.files("models/user/copy")["README.md"].decode())
    original = ModelCard(hub.files("models/user/legs")["README.md"].decode())
    assert (
        copied.data.to_dict()["model-index"][0]["results"]
        == (original.data.to_dict()["model-index"][0]["results"])
    )
    assert copied.text.count("## Scores of whole responses") == 1
    changed = SwitchLLM(config=llm.config.with_changes(max_tokens=9))
    changed.push_to_hub("user/changed")
    assert "Scores" not in hub.files("models/user/changed")["README.md"].decode()


def test_a_switch_that_carries_its_candidates_travels_on_with_its_scores(
    hub: Hub, trained: Path, evaluation: Path
) -> None:
    push(trained, "user/legs", evaluation=evaluation, with_models=True)
    llm = SwitchLLM.from_pretrained("user/legs")
    with pytest.raises(ConfigError, match="with_models"):
        llm.push_to_hub("user/copy")
    llm.push_to_hub("user/copy", with_models=True)
    assert "## Scores of whole responses" in hub.files("models/user/copy")["README.md"].decode()
    again = SwitchLLM.from_pretrained("user/copy")
    assert again.invoke(QUESTION) == llm.invoke(QUESTION)


def test_a_distilled_model_gets_its_anchors_licence(hub: Hub, online: Path, tmp_path: Path) -> None:
    del online
    out = tmp_path / "distilled"
    done(
        "distill", "--task", "tiny/compose", "--queries", "8", "--questions", "4",
        "--epochs", "1", "--rows-per-step", "8", "--out", out,
    )  # fmt: skip
    done("push", out, "user/model")
    files = hub.files("models/user/model")
    card = ModelCard(files["README.md"].decode())
    report = json.loads((out / "distillation.json").read_text(encoding="utf-8"))
    score = report["scores"]["distilled anchor"]
    (told,) = card.data.eval_results or ()
    assert card.data.license == "apache-2.0"
    assert card.text.startswith("# user/model")
    assert (told.metric_value, told.metric_args) == (
        score["mean"],
        {"n": 4, "low": score["low"], "high": score["high"]},
    )
    assert str(tmp_path) not in files["distillation.json"].decode()
    assert AutoModelForCausalLM.from_pretrained("user/model").num_parameters() == 988_288
    anchor = report["provenance"]["config"]["candidates"][2]
    anchor["model"] = str(tmp_path / "gone")
    (out / "distillation.json").write_text(json.dumps(report), encoding="utf-8")
    with pytest.raises(ConfigError, match="has no licence"):
        push(out, "user/model")


def test_an_evaluation_of_something_else_is_refused(trained: Path, evaluation: Path) -> None:
    data = json.loads((trained / "switch.json").read_text(encoding="utf-8"))
    data["max_tokens"] = 9
    (trained / "switch.json").write_text(json.dumps(data), encoding="utf-8")
    refused = cli("push", trained, "user/legs", "--evaluation", evaluation)
    assert refused.exit_code == 2
    assert "another switch" in refused.stderr
    assert "max_tokens" in refused.stderr
    with pytest.raises(ConfigError, match="holds no switch"):
        push(TINY / "aligned", "user/legs", license="mit", evaluation=evaluation)
    with pytest.raises(ConfigError, match=r"no evaluation\.json"):
        push(trained, "user/legs", evaluation=trained / "model")


def test_an_edited_card_keeps_its_text(hub: Hub, trained: Path, evaluation: Path) -> None:
    card = (trained / "README.md").read_text(encoding="utf-8")
    (trained / "README.md").write_text(card + "\nMind the spiders.\n", encoding="utf-8")
    push(trained, "user/legs", evaluation=evaluation)
    text = hub.files("models/user/legs")["README.md"].decode()
    assert "Mind the spiders." in text
    assert "## Scores of whole responses" in text


def test_bases_are_named_in_the_card(hub: Hub, online: Path, tmp_path: Path) -> None:
    del online
    for name in ("finetuned", "aligned"):
        push(TINY / name, f"user/{name}", license="mit")
    hub.cards["models/user/finetuned"] = hub.cards["models/user/aligned"] = {"license": "mit"}
    folder = SwitchLLM.embedded().save_pretrained(tmp_path / "switch")
    data = json.loads((folder / "switch.json").read_text(encoding="utf-8"))
    for spec in data["candidates"][1:]:
        spec["model"] = f"user/{spec['name']}"
    (folder / "switch.json").write_text(json.dumps(data), encoding="utf-8")
    (folder / "README.md").unlink()  # The embedded family's.
    push(folder, "user/legs", license="mit")
    card = ModelCard(hub.files("models/user/legs")["README.md"].decode())
    assert card.data.base_model == ["user/finetuned", "user/aligned"]
    assert "| 2 | aligned | user/aligned |" in card.text


def test_a_published_switch_is_run_by_its_name(hub: Hub, online: Path, tmp_path: Path) -> None:
    del online
    folder = SwitchLLM.embedded(seed=1).save_pretrained(tmp_path / "switch")
    first = push(folder, "user/legs")
    hub.heads["models/user/legs"]["v1"] = first.commit
    SwitchConfig.load(folder).with_changes(max_tokens=2).save(folder)
    push(folder, "user/legs")
    now, before = (
        done("run", "--config", "user/legs", *revision, "--quiet", QUESTION).strip()
        for revision in ((), ("--revision", "v1"))
    )
    assert before == SwitchLLM.embedded(seed=1).invoke(QUESTION).strip()
    assert len(now) < len(before)
    assert pull_switch("user/legs").max_tokens == 2
    for arguments, message in (
        (("--config", "user/none"), "no such repo"),
        (("--config", "missing.json"), "missing.json"),
        (("--revision", "v1"), "--config user/name"),
    ):
        refused = cli("run", *arguments, QUESTION)
        assert refused.exit_code != 0
        assert message in refused.stderr
    assert (pull("user/legs") / "README.md").is_file()


def test_the_licence_is_the_one_that_the_candidates_share(
    hub: Hub, trained: Path, tmp_path: Path
) -> None:
    (trained / "README.md").unlink()
    push(trained, "user/whole", with_models=True)  # The embedded family's own.
    assert ModelCard(hub.files("models/user/whole")["README.md"].decode()).data.license == (
        "apache-2.0"
    )
    bare = tmp_path / "bare"
    shutil.copytree(TINY / "aligned", bare)
    data = json.loads((trained / "switch.json").read_text(encoding="utf-8"))
    data["candidates"][2]["model"] = str(bare)
    (trained / "switch.json").write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(ConfigError, match="has no licence"):
        push(trained, "user/mixed", with_models=True)
    (bare / "README.md").write_text("---\nlicense: apache-2.0\n---\n", encoding="utf-8")
    push(trained, "user/mixed", with_models=True)
    assert "models/user/mixed" in hub.heads
