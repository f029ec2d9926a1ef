"""Packed weights: the same layer, held once, and back again; the same tokens as plain weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_models import byte_tokenizer, greedy, random_model
from torch import nn
from transformers import PreTrainedModel

from langgraph_switch.config import ModelRef
from langgraph_switch.engines import packed_linear
from langgraph_switch.engines.base import GenerateRequest
from langgraph_switch.engines.packed_linear import (
    PackedLinear,
    is_packing_possible,
    pack_linears,
    unpack_linears,
)
from langgraph_switch.engines.pool import ModelPool
from langgraph_switch.engines.transformers_engine import TransformersEngine

pytestmark = pytest.mark.skipif(
    not is_packing_possible(), reason="this torch has no oneDNN: weights stay plain"
)
LARGE: dict[str, Any] = {
    "hidden_size": 256,
    "intermediate_size": 1024,
    "head_dim": 64,
    "vocab_size": 1100,
    "initializer_range": 0.15,
}
PROMPTS = [list(range(40, 60)), list(range(70, 110)), [7, 8, 9]]


def packed_layers(module: nn.Module) -> list[str]:
    return [name for name, one in module.named_modules() if isinstance(one, PackedLinear)]


def save_base(folder: Path, **changes: Any) -> Path:
    random_model(**LARGE, **changes).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def write(engine: TransformersEngine, num_tokens: int = 24) -> list[list[int]]:
    requests = [
        GenerateRequest(
            row=str(i), prefix=prompt, response_start=len(prompt), max_new_tokens=num_tokens
        )
        for i, prompt in enumerate(PROMPTS)
    ]
    return [list(one.token_ids) for one in engine.generate(requests)]


@pytest.mark.parametrize("bias", [True, False])
def test_a_packed_layer_is_the_layer(bias: bool) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(640, 512, bias=bias)
    weight = linear.weight.detach().clone()
    packed = PackedLinear(linear)
    assert linear.weight.numel() == 0  # Held once.
    for shape in ((640,), (1, 640), (3, 1, 640), (2, 50, 640), (0, 640)):
        x = torch.randn(shape)
        torch.testing.assert_close(packed(x), nn.functional.linear(x, weight, linear.bias))
    assert torch.equal(packed.weight, weight)
    assert packed.unpacked() is linear
    assert torch.equal(linear.weight, weight)


@pytest.mark.parametrize("is_tied", [True, False])
def test_large_weights_are_packed_and_held_once(is_tied: bool) -> None:
    model = random_model(**LARGE, tie_word_embeddings=is_tied)
    before = {name: one.detach().clone() for name, one in model.named_parameters()}
    ids = torch.tensor([PROMPTS[0], PROMPTS[0][::-1]])
    with torch.inference_mode():
        expected = model(ids).logits
        pack_linears(model)
        names = packed_layers(model)
        assert len(names) == 2 * 3 + 1  # The projections of attention are too small.
        assert "lm_head" in names
        torch.testing.assert_close(model(ids).logits, expected, rtol=1e-3, atol=1e-3)
    if is_tied:
        head = model.get_output_embeddings().weight
        assert head.data_ptr() == model.get_input_embeddings().weight.data_ptr()
    unpack_linears(model)
    assert packed_layers(model) == []
    assert all(torch.equal(one, before[name]) for name, one in model.named_parameters())


def test_a_loaded_model_writes_what_generate_writes(tmp_path: Path) -> None:
    engine = ModelPool(kv_cache_bytes=2**30).engine(
        ModelRef(model=str(save_base(tmp_path)), device="cpu"), name="a"
    )
    assert len(packed_layers(engine.model.module)) == 7
    model = random_model(**LARGE)
    assert write(engine) == [greedy(model, prompt, 24) for prompt in PROMPTS]


def test_adapters_of_a_packed_base_write_what_merged_ones_do(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base")
    merged: list[PreTrainedModel] = []
    for seed, whole in ((1, None), (2, ["lm_head"])):
        config = LoraConfig(
            r=4,
            target_modules=["q_proj", "up_proj"],
            modules_to_save=whole,
            init_lora_weights=False,
            task_type="CAUSAL_LM",
        )
        torch.manual_seed(seed)
        model = get_peft_model(random_model(**LARGE), config)
        if whole:
            with torch.no_grad():
                model.base_model.model.lm_head.modules_to_save.default.weight.mul_(-1)
        model.save_pretrained(str(tmp_path / f"adapter{seed}"))
        merged.append(model.merge_and_unload())
    pool = ModelPool(kv_cache_bytes=2**30)
    engines = [
        pool.engine(ModelRef(model=str(base), adapter=adapter, device="cpu"), name="a")
        for adapter in (None, str(tmp_path / "adapter1"), str(tmp_path / "adapter2"))
    ]
    assert len(packed_layers(engines[0].model.module)) == 7
    expected = [
        [greedy(model, prompt, 24) for prompt in PROMPTS]
        for model in (random_model(**LARGE), *merged)
    ]
    assert len({str(one) for one in expected}) == 3
    for index in (0, 1, 2, 0, 2):
        assert write(engines[index]) == expected[index]


def test_looking_whether_it_works_draws_no_random_number() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert packed_linear._works.__wrapped__()
    assert torch.equal(torch.get_rng_state(), before)


def test_torchs_own_switch_is_heeded(tmp_path: Path) -> None:
    ref = ModelRef(model=str(save_base(tmp_path)), device="cpu")
    with torch.backends.mkldnn.flags(enabled=False):
        engine = ModelPool(kv_cache_bytes=2**30).engine(ref, name="a")
    assert packed_layers(engine.model.module) == []
    assert write(engine)


def test_other_precisions_stay_as_they_are(tmp_path: Path) -> None:
    ref = ModelRef(model=str(save_base(tmp_path)), device="cpu", dtype="bfloat16")
    engine = ModelPool(kv_cache_bytes=2**30).engine(ref, name="a")
    assert packed_layers(engine.model.module) == []
