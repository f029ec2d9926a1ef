from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from rollout_rows import NAMES, learnable_rows, row, write_rollouts
from safetensors.torch import load_file
from tiny_models import random_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from langgraph_switch import SwitchConfig, SwitchLLM
from langgraph_switch.config import HeadSwitcherSpec, LMSwitcherSpec
from langgraph_switch.engines.models import load_tokenizer
from langgraph_switch.errors import ConfigError, EngineError
from langgraph_switch.families import embedded_config
from langgraph_switch.hub.plan import plan_memory
from langgraph_switch.offline import head_training
from langgraph_switch.offline.head_settings import HeadSettings
from langgraph_switch.offline.provenance import switcher_provenance
from langgraph_switch.offline.sft import SftSettings
from langgraph_switch.offline.switcher_artifact import TrainedSwitcher
from langgraph_switch.offline.switcher_metrics import predict
from langgraph_switch.offline.training import train_switcher
from langgraph_switch.offline.training_rows import RowSettings, load_rollouts, target_probabilities
from langgraph_switch.prompts.switcher import SwitcherPrompt
from langgraph_switch.switchers.head import HeadSwitcher

QUESTION = "How many legs do 3 spiders and 2 cats have in total?"
ROWS = RowSettings(holdout=0.2)
LINEAR = HeadSettings(epochs=40)
MLP = HeadSettings(kind="mlp", epochs=5, hidden_units=8)


class CrashError(RuntimeError):
    """What a machine that goes down raises."""


@pytest.fixture(scope="module")
def rollouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rollouts(tmp_path_factory.mktemp("rollouts"), learnable_rows(240))


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rollouts(tmp_path_factory.mktemp("few"), learnable_rows(80))


@pytest.fixture(scope="module")
def trained(rollouts: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainedSwitcher:
    out = tmp_path_factory.mktemp("runs") / "spiders"
    return train_switcher(rollouts, out=out, rows=ROWS, settings=LINEAR)


def head_of(done: TrainedSwitcher) -> dict[str, torch.Tensor]:
    return load_file(done.folder / "head" / "head.safetensors")


def is_equal(one: TrainedSwitcher, other: TrainedSwitcher) -> bool:
    ours, theirs = head_of(one), head_of(other)
    return all(bool((ours[name] == theirs[name]).all()) for name in ours)


def test_a_learnable_rule_is_learned(trained: TrainedSwitcher) -> None:
    metrics = trained.metrics
    assert metrics["n"] > 30
    assert metrics["accuracy"]["mean"] > 0.8
    for baseline in metrics["baselines"].values():
        assert baseline["accuracy"]["mean"] < 0.6
        assert baseline["regret"]["mean"] > metrics["regret"]["mean"]
    assert trained.finetuned["method"] == "linear"
    assert trained.finetuned["num_trained_parameters"] == (128 + 8) * 3 + 3


def test_the_folder_serves_as_that_of_any_switcher(trained: TrainedSwitcher) -> None:
    files = {str(f.relative_to(trained.folder)) for f in trained.folder.rglob("*") if f.is_file()}
    assert files == {
        "switch.json", "metrics.json", "README.md", "head/head.json", "head/head.safetensors",
    }  # fmt: skip
    assert [one.name for one in trained.folder.parent.iterdir()] == ["spiders"]
    llm = SwitchLLM.from_pretrained(trained.folder)
    spec = llm.config.switcher
    assert isinstance(spec, HeadSwitcherSpec)
    assert (spec.head, spec.candidate) == ("./head", "aligned")
    assert [one.name for one in spec.trained_on or ()] == list(NAMES)
    assert isinstance(llm.switch.switcher, HeadSwitcher)
    assert llm.invoke(QUESTION)
    plan = plan_memory(llm.config)
    assert [one.users for one in plan.weights][-1] == ("aligned", "switcher")
    assert len(plan.weights) == 3
    known = switcher_provenance(SwitchConfig.load(trained.folder))
    assert known["rollouts completed by"] == "random"
    card = ModelCard.load(trained.folder / "README.md").text
    assert "linear (a linear head on 128 numbers of 'aligned')" in card
    assert f"{100 * trained.metrics['accuracy']['mean']:.1f}" in card


def test_what_is_measured_is_what_is_served(trained: TrainedSwitcher, rollouts: Path) -> None:
    rows = load_rollouts([rollouts]).rows[:12]
    twice = [predict(SwitchLLM.from_config(trained.folder).switch.switcher, rows) for _ in range(2)]
    assert twice[0] == twice[1]
    alone = [
        predict(SwitchLLM.from_config(trained.folder).switch.switcher, [one])[0] for one in rows[:3]
    ]
    for one, other in zip(twice[0], alone, strict=False):
        assert one == pytest.approx(other, abs=1e-5)


@pytest.mark.parametrize("settings", [LINEAR, MLP])
def test_the_same_seed_trains_the_same_head(
    few: Path, tmp_path: Path, settings: HeadSettings
) -> None:
    global_state = torch.get_rng_state()
    first, second = (
        train_switcher(few, out=tmp_path / name, rows=ROWS, settings=settings) for name in "ab"
    )
    assert is_equal(first, second)
    assert first.metrics == second.metrics
    assert bool((torch.get_rng_state() == global_state).all())
    other = settings.model_copy(update={"seed": 1})
    assert not is_equal(first, train_switcher(few, out=tmp_path / "c", rows=ROWS, settings=other))


@pytest.mark.parametrize("place", ["collecting", "fitting"])
def test_a_broken_off_training_goes_on_to_the_same_head(
    few: Path, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head_training, "_ROWS_AT_ONCE", 16)
    whole = train_switcher(few, out=tmp_path / "whole", rows=ROWS, settings=LINEAR)
    collected: list[int] = []
    save = head_training.save_file

    def saving(tensors: Any, path: Path) -> None:
        if place == "collecting" and len(collected) == 2:
            raise CrashError
        save(tensors, path)
        collected.append(1)

    def on_event(event: dict[str, Any]) -> None:
        if place == "fitting" and event["type"] == "step":
            raise CrashError

    monkeypatch.setattr(head_training, "save_file", saving)
    with pytest.raises(CrashError):
        train_switcher(few, out=tmp_path / "out", rows=ROWS, settings=LINEAR, on_event=on_event)
    assert not (tmp_path / "out").exists()
    before, place = len(collected), "done"
    resumed = train_switcher(few, out=tmp_path / "out", rows=ROWS, settings=LINEAR)
    num_shards = -(-whole.counts["training"] // 16)
    assert before in {2, num_shards}
    assert len(collected) == num_shards  # None was computed twice.
    assert is_equal(resumed, whole)
    assert resumed.metrics == whole.metrics


def test_a_finished_run_is_not_done_again_and_another_is_refused(
    trained: TrainedSwitcher, rollouts: Path
) -> None:
    again = train_switcher(rollouts, out=trained.folder, rows=ROWS, settings=LINEAR)
    assert again == trained
    with pytest.raises(ConfigError, match=r"settings\.kind: 'linear' there, 'mlp' now"):
        train_switcher(rollouts, out=trained.folder, rows=ROWS, settings=MLP)
    with pytest.raises(ConfigError, match=r"settings\.lora_r"):
        train_switcher(rollouts, out=trained.folder, rows=ROWS, settings=SftSettings())


def test_any_candidate_may_be_read_and_nobody_else(few: Path, tmp_path: Path) -> None:
    done = train_switcher(few, out=tmp_path / "a", base="finetuned", rows=ROWS, settings=MLP)
    config = SwitchConfig.load(done.folder)
    assert isinstance(config.switcher, HeadSwitcherSpec)
    assert config.switcher.candidate == "finetuned"
    assert SwitchLLM.from_config(done.folder).invoke(QUESTION)
    with pytest.raises(ConfigError, match="'user/model' is none") as caught:
        train_switcher(few, out=tmp_path / "b", base="user/model", settings=LINEAR)
    assert "leave --head out" in caught.value.hint


def test_a_head_on_a_candidate_of_another_width_is_refused(trained: TrainedSwitcher) -> None:
    folder = trained.folder.parent / "wider"
    folder.mkdir()
    random_model("llama", vocab_size=1440).save_pretrained(folder)
    source = Path(embedded_config().resolve_model("./aligned"))
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (folder / name).write_bytes((source / name).read_bytes())
    with pytest.warns(UserWarning, match="was trained with"):
        llm = SwitchLLM.from_pretrained(trained.folder, candidates={"aligned": str(folder)})
    with pytest.raises(ConfigError, match=r"hidden states of 128 numbers.*'aligned' has 48"):
        llm.invoke(QUESTION)


def test_nothing_to_learn_from_and_divergence_are_said(tmp_path: Path) -> None:
    tied = [row(f"t{i}", "How many?", [[1.0], [1.0], [1.0]]) for i in range(6)]
    with pytest.raises(ConfigError, match="no rows to train on"):
        train_switcher(write_rollouts(tmp_path / "r", tied), out=tmp_path / "a", settings=LINEAR)
    wild = HeadSettings(learning_rate=1e30, epochs=50, kind="mlp")
    folder = write_rollouts(tmp_path / "s", learnable_rows(40))
    with pytest.raises(EngineError, match="diverged"):
        train_switcher(folder, out=tmp_path / "b", rows=ROWS, settings=wild)


def test_soft_labels_are_the_lm_switchers(few: Path) -> None:
    one = load_rollouts([few]).rows[0]
    assert target_probabilities(one, is_soft=False, temperature=1) == [1.0, 0.0, 0.0]
    soft = target_probabilities(one, is_soft=True, temperature=0.15)
    expected = torch.softmax(torch.tensor(one["means"]).double() / 0.15, dim=0)
    assert soft == pytest.approx(expected.tolist())


def another_tokenizer(merging: str) -> PreTrainedTokenizerFast:
    """Return a tokenizer of another family, that has merged what it was trained on."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=280,
        special_tokens=["<|end|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator([merging * 20], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>")  # noqa: S106


@pytest.mark.parametrize("kind", ["gpt2 with learned positions", "qwen2 with mixed layers"])
@pytest.mark.parametrize("merging", ["a 1 b 1", "a 0 b 1 c 2"])
def test_a_small_lm_of_another_family_and_tokenizer_is_a_switcher(
    few: Path, tmp_path: Path, kind: str, merging: str
) -> None:
    """Whether its tokenizer merges the blank with no label, with some or with all of them."""
    base = tmp_path / "base"
    random_model(kind, initializer_range=0.02, eos_token_id=0).save_pretrained(base)
    another_tokenizer(merging).save_pretrained(base)
    tokenizer = load_tokenizer(str(base))
    anchor = load_tokenizer(embedded_config().resolve_model("./aligned"))
    assert tokenizer.fingerprint != anchor.fingerprint
    labels = SwitcherPrompt(tokenizer, NAMES, kind="plain").labels.labels
    assert {len(label) for label in labels} == {1}
    done = train_switcher(
        few,
        out=tmp_path / "out",
        base=str(base),
        rows=RowSettings(holdout=0.2, soft_labels=True),
        settings=SftSettings(epochs=1, batch_size=16),
    )
    assert done.metrics["n"] > 0
    config = SwitchConfig.load(done.folder)
    assert isinstance(config.switcher, LMSwitcherSpec)
    assert config.switcher.model == "./model"
    llm = SwitchLLM.from_config(done.folder)
    assert llm.invoke(QUESTION) == llm.invoke(QUESTION)
