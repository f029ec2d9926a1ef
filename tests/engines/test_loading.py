from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_models import byte_tokenizer, random_model
from transformers import MambaConfig, MambaForCausalLM

from langgraph_switch.engines.models import load_shared_model, load_tokenizer, resolve_device
from langgraph_switch.errors import ConfigError, ModelLoadError, UnsafeWeightsError


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    random_model().save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    return tmp_path


def test_a_folder_loads(checkpoint: Path) -> None:
    model = load_shared_model(str(checkpoint), device="cpu")
    assert model.max_context_tokens == 2048
    assert model.vocab_size == 300
    assert model.module.dtype == torch.float32


def test_half_precision_weights_become_float32_on_a_cpu_unless_told(checkpoint: Path) -> None:
    random_model().half().save_pretrained(checkpoint)
    assert load_shared_model(str(checkpoint), device="cpu").module.dtype == torch.float32
    told = load_shared_model(str(checkpoint), device="cpu", dtype="bfloat16")
    assert told.module.dtype == torch.bfloat16


def test_a_missing_folder_is_named() -> None:
    with pytest.raises(ModelLoadError, match=r"'./no/such'.*no such folder(?s:.*)Fix:"):
        load_shared_model("./no/such")


def test_a_folder_without_a_configuration_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"no config.json(?s:.*)save_pretrained"):
        load_shared_model(str(tmp_path))


def test_a_folder_without_a_tokenizer_says_so(tmp_path: Path) -> None:
    random_model().save_pretrained(tmp_path)
    with pytest.raises(ModelLoadError, match=r"lacks a usable tokenizer(?s:.*)save_pretrained"):
        load_tokenizer(str(tmp_path))


def test_pickled_weights_are_refused(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").rename(checkpoint / "pytorch_model.bin")
    with pytest.raises(UnsafeWeightsError, match=r"pickled weights only \(pytorch_model.bin\)"):
        load_shared_model(str(checkpoint))


def test_a_checkpoint_without_weights_is_refused(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").unlink()
    with pytest.raises(UnsafeWeightsError, match="no safetensors weights"):
        load_shared_model(str(checkpoint))


def test_foreign_code_is_refused(checkpoint: Path) -> None:
    marker = checkpoint / "was_run"
    (checkpoint / "evil.py").write_text(f"open({str(marker)!r}, 'w')\nclass C: pass\n")
    config = {"model_type": "evil", "auto_map": {"AutoConfig": "evil.C"}}
    config["auto_map"]["AutoModelForCausalLM"] = "evil.C"
    (checkpoint / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelLoadError) as caught:
        load_shared_model(str(checkpoint))
    assert isinstance(caught.value, UnsafeWeightsError)
    assert not marker.exists()


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_a_broken_file_is_an_error_that_names_the_source(checkpoint: Path, file: str) -> None:
    (checkpoint / file).write_bytes(b"{ this is broken")
    with pytest.raises(ModelLoadError, match=f"Cannot load '{checkpoint}'"):
        load_shared_model(str(checkpoint))


def test_recurrent_models_are_refused(tmp_path: Path) -> None:
    config = MambaConfig(hidden_size=16, num_hidden_layers=1, vocab_size=300, state_size=4)
    MambaForCausalLM(config).save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ModelLoadError, match="cannot be cut back to a prefix"):
        load_shared_model(str(tmp_path))


@pytest.mark.parametrize("device", ["quantum", "cuda:99", "mps"])
def test_an_unknown_device_is_refused_with_those_there_are(device: str) -> None:
    if device == "mps" and torch.backends.mps.is_available():
        device = "quantum"
    with pytest.raises(ConfigError, match=rf"no device '{device}'(?s:.*)use one of: auto, cpu"):
        resolve_device(device)


def test_a_repo_fails_fast_and_clearly_when_the_hub_is_off(tmp_path: Path) -> None:
    program = (
        "from langgraph_switch.engines.models import load_shared_model\n"
        "from langgraph_switch.errors import ModelLoadError\n"
        "try:\n    load_shared_model('nobody/nothing')\n"
        "except ModelLoadError as err:\n    print(err, err.retryable)\n"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "'nobody/nothing'" in done.stdout
    assert "not in the local cache and the Hub cannot be reached" in done.stdout
    assert "unset HF_HUB_OFFLINE" in done.stdout
    assert done.stdout.rstrip().endswith("True")


def test_the_callers_tokenizer_is_never_changed(checkpoint: Path) -> None:
    tokenizer = byte_tokenizer()
    before = (tokenizer.padding_side, tokenizer.pad_token, tokenizer.backend_tokenizer.to_str())
    loaded = load_tokenizer(str(checkpoint))
    loaded.encode("text"), loaded.encode_document("text"), loaded.decode([1, 2])
    assert loaded.fingerprint
    assert before == (
        tokenizer.padding_side,
        tokenizer.pad_token,
        tokenizer.backend_tokenizer.to_str(),
    )
