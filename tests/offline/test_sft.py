from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from rollout_rows import NAMES, learnable_rows, prefix
from safetensors.torch import load_file
from tiny_models import CONFIGS, byte_tokenizer, make_engine, random_model

from langgraph_switch.config import ModelRef, Sampling
from langgraph_switch.engines.tokenizer import HFTokenizer
from langgraph_switch.errors import ConfigError, EngineError, UnsafeWeightsError
from langgraph_switch.offline.sft import Finetuned, SftRow, SftSettings, finetune
from langgraph_switch.offline.sft_trainer import collate, label_logits, last_checkpoint
from langgraph_switch.offline.training_rows import RowEncoder, RowSettings, prefix_trace
from langgraph_switch.switchers.base import Turn
from langgraph_switch.switchers.lm import LMSwitcher

SMALL = SftSettings(epochs=2, batch_size=4, save_steps=2, learning_rate=3e-3, lora_r=4)
LORA = SMALL.model_copy(update={"method": "lora"})
PICKLES = {".bin", ".pt", ".pth", ".pkl", ".ckpt"}


class CrashError(RuntimeError):
    """What a machine that goes down raises."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    return save_model(tmp_path_factory.mktemp("base"), "llama")


def save_model(folder: Path, kind: str, dtype: torch.dtype = torch.float32) -> ModelRef:
    random_model(kind, eos_token_id=[3, 5]).to(dtype).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return ModelRef(model=str(folder))


def encoder(**settings: Any) -> RowEncoder:
    return RowEncoder(
        HFTokenizer(byte_tokenizer()), NAMES, RowSettings(**settings), temperature=0.2
    )


def label_rows(number: int = 10, **settings: Any) -> list[SftRow]:
    return [encoder(**settings).encode(row) for row in learnable_rows(number)]


def plain_rows(number: int = 10) -> list[SftRow]:
    return [
        SftRow(input_ids=[5, 6, 7 + i, 9], labels=[-100, -100, 7 + i, 9]) for i in range(number)
    ]


def weights(done: Finetuned) -> dict[str, torch.Tensor]:
    return load_file(next(done.folder.glob("*.safetensors")))


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_trained_logits_are_those_that_serve(kind: str) -> None:
    model = random_model(kind)
    rows = learnable_rows(5)
    batch = collate([encoder().encode(row) for row in rows])
    inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
    with torch.no_grad():
        _, logits = label_logits(model, inputs, batch["labels"], batch["label_ids"])
    switcher = LMSwitcher(
        make_engine(model), NAMES, sampling=Sampling(temperature=1), segment_tokens=6
    )
    turns = [Turn(prefix_trace(row), str(i)) for i, row in enumerate(rows)]
    served = switcher.probabilities(turns)
    assert torch.allclose(logits.softmax(-1), torch.tensor(served), atol=1e-5)


def test_the_first_loss_is_the_cross_entropy_of_what_is_served(
    base: ModelRef, tmp_path: Path
) -> None:
    rows = learnable_rows(4)
    switcher = LMSwitcher(
        make_engine(random_model()), NAMES, sampling=Sampling(temperature=1), segment_tokens=6
    )
    served = switcher.probabilities([Turn(prefix_trace(r), str(i)) for i, r in enumerate(rows)])
    first: dict[str, float] = {}
    for kind, settings in {"hard": {}, "soft": {"soft_labels": True}}.items():
        made = [encoder(**settings).encode(row) for row in rows]
        losses: list[float] = []
        finetune(
            made,
            base,
            work=tmp_path / kind,
            settings=SMALL,
            on_step=lambda *step, into=losses: into.append(step[2]),
        )
        expected = -sum(
            target * math.log(p)
            for row, probabilities in zip(made, served, strict=True)
            for target, p in zip(row["label_probabilities"], probabilities, strict=True)
        )
        assert losses[0] == pytest.approx(expected / len(rows), abs=1e-4)
        first[kind] = losses[0]
    assert first["soft"] != pytest.approx(first["hard"], abs=1e-3)


def test_plain_rows_are_learned_where_they_have_labels_and_nowhere_else(
    base: ModelRef, tmp_path: Path
) -> None:
    rows = plain_rows(4)
    losses: list[float] = []
    finetune(rows, base, work=tmp_path, settings=SMALL, on_step=lambda *s: losses.append(s[2]))
    ids = torch.tensor([row["input_ids"] for row in rows])
    with torch.no_grad():
        steps = random_model()(ids).logits.log_softmax(-1)
    expected = -sum(float(steps[i, at - 1, ids[i, at]]) for i in range(4) for at in (2, 3)) / 8
    assert losses[0] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("settings", [SMALL, LORA], ids=["full", "lora"])
@pytest.mark.parametrize("make_rows", [label_rows, plain_rows])
def test_a_resumed_training_equals_an_uninterrupted_one(
    base: ModelRef, tmp_path: Path, settings: SftSettings, make_rows: Any
) -> None:
    rows = make_rows()
    whole = finetune(rows, base, work=tmp_path / "whole", settings=settings)
    assert whole.steps == 6
    assert whole.resumed_from_step == 0

    def crash(step: int, total: int, loss: float) -> None:
        assert total == 6
        assert loss > 0
        if step == 5:
            raise CrashError

    with pytest.raises(CrashError):
        finetune(rows, base, work=tmp_path / "broken", settings=settings, on_step=crash)
    # A checkpoint that was being written when the machine went down does not count.
    (tmp_path / "broken" / "checkpoints" / "checkpoint-5").mkdir()
    seen: list[int] = []
    resumed = finetune(
        rows,
        base,
        work=tmp_path / "broken",
        settings=settings,
        on_step=lambda step, *_: seen.append(step),
    )
    assert seen == [5, 6]
    assert resumed.resumed_from_step == 4
    expected, found = weights(whole), weights(resumed)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert not [path for path in tmp_path.rglob("*") if path.suffix in PICKLES]


def test_a_finished_training_is_not_done_again(base: ModelRef, tmp_path: Path) -> None:
    once = finetune(plain_rows(), base, work=tmp_path, settings=SMALL)
    again = finetune(
        plain_rows(), base, work=tmp_path, settings=SMALL, on_step=lambda *_: pytest.fail("again")
    )
    assert again == once


def test_small_forward_passes_make_the_same_steps(base: ModelRef, tmp_path: Path) -> None:
    rows = label_rows(10)  # The third batch of each epoch is smaller.
    found, losses = [], []
    for micro in (1, 4):
        seen: list[float] = []
        done = finetune(
            rows,
            base,
            work=tmp_path / str(micro),
            settings=SMALL.model_copy(update={"micro_batch_size": micro}),
            on_step=lambda *step, into=seen: into.append(step[2]),
        )
        found.append(weights(done))
        losses.append(seen)
    # Adam does not see the size of a gradient, so the losses are what tells.
    assert losses[0] == pytest.approx(losses[1], abs=1e-3)
    for name, value in found[0].items():
        assert torch.allclose(value, found[1][name], atol=1e-3)


def test_half_precision_is_trained_in_full_and_saved_as_it_was(tmp_path: Path) -> None:
    base = save_model(tmp_path / "base", "llama", torch.float16)
    done = finetune(label_rows(), base, work=tmp_path / "work", settings=SMALL)
    before = load_file(tmp_path / "base" / "model.safetensors")
    after = weights(done)
    assert done.dtype == "float16"
    assert {value.dtype for value in after.values()} == {torch.float16}
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_what_is_saved_differs_from_the_base_in_its_weights_alone(
    base: ModelRef, tmp_path: Path
) -> None:
    done = finetune(label_rows(), base, work=tmp_path, settings=SMALL)
    for name in ("config.json", "generation_config.json", "tokenizer.json"):
        saved, original = (
            json.loads((folder / name).read_text()) for folder in (done.folder, Path(base.model))
        )
        assert saved == original


def test_an_adapter_names_its_base_and_brings_no_card_of_its_own(
    base: ModelRef, tmp_path: Path
) -> None:
    done = finetune(label_rows(), base, work=tmp_path, settings=LORA)
    config = json.loads((done.folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == base.model
    assert config["r"] == 4
    assert set(config["target_modules"]) == set(LORA.lora_targets)
    assert not (done.folder / "README.md").exists()
    assert done.num_trained_parameters < done.num_parameters
    assert any(float(v.abs().max()) > 0 for k, v in weights(done).items() if "lora_B" in k)


def test_auto_trains_all_weights_of_a_small_model_and_says_so(
    base: ModelRef, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    done = finetune(plain_rows(), base, work=tmp_path, settings=SMALL)
    assert done.method == "full"
    assert "fewer than 50,000,000" in done.why
    assert done.rows_per_second > 0
    assert SftSettings().choose_method(8_000_000_000)[0] == "lora"
    assert SftSettings().rate("lora") == 1e-5
    assert SftSettings().rate("full") == 1e-3
    assert capfd.readouterr() == ("", "")


def test_the_default_forward_passes_divide_the_batch() -> None:
    assert SftSettings().micro_batch(1_000_000) == 32
    assert SftSettings().micro_batch(8_000_000_000) == 4
    assert SftSettings(batch_size=6).micro_batch(8_000_000_000) == 3
    with pytest.raises(ValueError, match="must divide"):
        SftSettings(batch_size=8, micro_batch_size=3)


def test_another_runs_work_is_refused_and_what_differs_is_said(
    base: ModelRef, tmp_path: Path
) -> None:
    finetune(plain_rows(), base, work=tmp_path, settings=SMALL)
    other = SMALL.model_copy(update={"seed": 7})
    with pytest.raises(ConfigError, match=r"settings\.seed: 0 there, 7 now") as caught:
        finetune(plain_rows(), base, work=tmp_path, settings=other)
    assert "delete this one" in caught.value.hint
    with pytest.raises(ConfigError, match="rows: '10 rows"):
        finetune(plain_rows(11), base, work=tmp_path, settings=SMALL)


def test_rows_that_cannot_be_trained_on_are_refused(base: ModelRef, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="3 rows to train on, fewer than one batch of 4") as info:
        finetune(plain_rows(3), base, work=tmp_path / "a", settings=SMALL)
    assert "to 3 or fewer" in info.value.hint
    long = [SftRow(input_ids=[1] * 30, labels=[1] * 30)] * 4
    with pytest.raises(ConfigError, match="30 tokens does not fit into max_length"):
        finetune(long, base, work=tmp_path / "b", settings=SftSettings(batch_size=4, max_length=9))
    longer = [SftRow(input_ids=[1] * 3000, labels=[1] * 3000)] * 4
    with pytest.raises(ConfigError, match="the context of"):
        finetune(longer, base, work=tmp_path / "c", settings=SMALL)


def test_models_that_cannot_be_trained_so_are_refused(tmp_path: Path) -> None:
    gpt2 = save_model(tmp_path / "gpt2", "gpt2 with learned positions")
    with pytest.raises(ConfigError, match="no layer named 'k_proj'") as caught:
        finetune(plain_rows(), gpt2, work=tmp_path / "a", settings=LORA)
    assert "lora_targets" in caught.value.hint
    with pytest.raises(ConfigError, match="cannot be the start"):
        finetune(
            plain_rows(),
            gpt2.model_copy(update={"adapter": "x"}),
            work=tmp_path / "b",
            settings=SMALL,
        )
    (tmp_path / "gpt2" / "model.safetensors").rename(tmp_path / "gpt2" / "pytorch_model.bin")
    with pytest.raises(UnsafeWeightsError, match="pickled weights only"):
        finetune(plain_rows(), gpt2, work=tmp_path / "c", settings=SMALL)


def test_a_training_that_diverges_says_so(base: ModelRef, tmp_path: Path) -> None:
    wild = SMALL.model_copy(update={"learning_rate": 1e30, "warmup": 0.0})
    with pytest.raises(EngineError, match="diverged") as caught:
        finetune(plain_rows(), base, work=tmp_path, settings=wild)
    assert "lower learning_rate" in caught.value.hint


def test_only_whole_checkpoints_count(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path) is None
    for step, text in ((9, "{}"), (10, "{}\n"), (11, '{"half'), (12, None)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if text is not None:
            (folder / "trainer_state.json").write_text(text)
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-10"


def test_the_rows_helper_builds_traces_that_survive_json() -> None:
    trace = prefix("hello", ("aligned", "One."))
    assert prefix_trace({"prefix": json.dumps(trace.to_json())}) == trace


def test_few_rows_are_passed_over_until_there_are_enough_steps() -> None:
    settings = SftSettings()
    assert settings.num_epochs("full", 320) == 20
    assert settings.num_epochs("full", 640) == 10
    assert settings.num_epochs("full", 10_000) == 5
    assert settings.num_epochs("lora", 320) == 5
    assert SftSettings(epochs=3).num_epochs("full", 320) == 3
