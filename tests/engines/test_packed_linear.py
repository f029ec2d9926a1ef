"""Packed weights: the same layer, held once, and back again; the same tokens as plain weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_models import byte_tokenizer, greedy, random_model
from torch import nn
from transformers import PreTrainedModel

from langgraph_switch.config import ModelRef
from langgraph_switch.engines import few_rows, packed_linear
from langgraph_switch.engines.base import GenerateRequest
from langgraph_switch.engines.few_rows import WeightBlocks, serves_few_rows
from langgraph_switch.engines.packed_linear import (
    PackedEmbedding,
    PackedLinear,
    is_packing_possible,
    pack_linears,
    unpack_linears,
    weight_storages,
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


needs_small_kernels = pytest.mark.skipif(
    not few_rows._has_small_kernels(), reason="numpy has no kernels for a few rows here"
)


@pytest.fixture(params=["a few rows by themselves", "oneDNN alone"], autouse=True)
def how(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Everything holds on both ways; the second is that of other processors and more threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    if request.param == "oneDNN alone":
        monkeypatch.setattr(few_rows, "_has_small_kernels", lambda: False)
    yield request.param
    torch.set_num_threads(before)


def packed_layers(module: nn.Module) -> list[str]:
    return [name for name, one in module.named_modules() if isinstance(one, PackedLinear)]


def large_layers(module: nn.Module) -> list[str]:
    limit = 2**18 if serves_few_rows() else 2**20
    return [
        name
        for name, one in module.named_modules()
        if isinstance(one, nn.Linear) and one.weight.nbytes >= limit
    ]


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
@pytest.mark.parametrize("size", [(640, 512), (640, 500), (70, 100), (4096, 64), (16, 1)])
def test_a_packed_layer_is_the_layer(size: tuple[int, int], bias: bool) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(*size, bias=bias)
    weight = linear.weight.detach().clone()
    packed = PackedLinear(linear)
    assert linear.weight.numel() == 0  # Held once.
    for shape in ((), (1,), (2,), (3, 1), (5,), (8,), (16,), (17,), (2, 50), (0,)):
        x = torch.randn((*shape, size[0]))
        torch.testing.assert_close(packed(x), nn.functional.linear(x, weight, linear.bias))
        apart = torch.randn((*shape, 2 * size[0]))[..., ::2]  # Not contiguous.
        torch.testing.assert_close(packed(apart), nn.functional.linear(apart, weight, linear.bias))
    assert torch.equal(packed.weight, weight)
    assert packed.unpacked() is linear
    assert torch.equal(linear.weight, weight)


@pytest.mark.parametrize("is_tied", [True, False])
def test_large_weights_are_packed_and_held_once(is_tied: bool) -> None:
    model = random_model(**LARGE, tie_word_embeddings=is_tied)
    before = {name: one.detach().clone() for name, one in model.named_parameters()}
    large = large_layers(model)
    ids = torch.tensor([PROMPTS[0], PROMPTS[0][::-1]])
    with torch.inference_mode():
        expected = model(ids).logits
        pack_linears(model)
        assert packed_layers(model) == large
        assert len(large) in (2 * 3 + 1, 2 * 5 + 1)  # Some projections of attention are small.
        assert "lm_head" in large
        for rows in (ids, ids[:1], ids[:, :1]):
            torch.testing.assert_close(
                model(rows).logits, expected[: len(rows), : rows.shape[1]], rtol=1e-3, atol=1e-3
            )
    if is_tied:
        head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
        assert torch.equal(head.weight, embedding.weight)
        is_packed = isinstance(embedding, PackedEmbedding)
        assert is_packed == serves_few_rows()
        assert is_packed or head.weight.data_ptr() == embedding.weight.data_ptr()
    assert sum(weight_storages(model).values()) == sum(one.nbytes for one in before.values())
    assert model.num_parameters() < sum(one.numel() for one in before.values()) / 3  # Held once.
    unpack_linears(model)
    assert packed_layers(model) == []
    assert type(model.get_input_embeddings()) is nn.Embedding
    if is_tied:
        assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert all(torch.equal(one, before[name]) for name, one in model.named_parameters())


def test_a_loaded_model_writes_what_generate_writes(tmp_path: Path) -> None:
    engine = ModelPool(kv_cache_bytes=2**30).engine(
        ModelRef(model=str(save_base(tmp_path)), device="cpu"), name="a"
    )
    model = random_model(**LARGE)
    assert packed_layers(engine.model.module) == large_layers(model)
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
    assert len(packed_layers(engines[0].model.module)) == len(large_layers(random_model(**LARGE)))
    expected = [
        [greedy(model, prompt, 24) for prompt in PROMPTS]
        for model in (random_model(**LARGE), *merged)
    ]
    assert len({str(one) for one in expected}) == 3
    for index in (0, 1, 2, 0, 2):
        assert write(engines[index]) == expected[index]


@needs_small_kernels
def test_many_threads_leave_a_few_rows_to_torch(how: str) -> None:
    linear = nn.Linear(640, 512)
    blocks = WeightBlocks.of(PackedLinear(copy.deepcopy(linear))._matrix, linear.weight.detach())
    assert (blocks is not None) == (how == "a few rows by themselves")
    if blocks is not None:
        for num_threads, most in ((1, 16), (2, 4), (3, 0)):
            torch.set_num_threads(num_threads)
            served = [n for n in range(40) if blocks.can_serve(torch.zeros(n, 640))]
            assert served == [*range(1, most + 1)]


@pytest.mark.parametrize("wrong", [-1, 1100, 1130, 2000])
def test_a_token_that_is_none_is_refused_as_before(wrong: int) -> None:
    model = random_model(**LARGE, tie_word_embeddings=True)
    pack_linears(model)
    with pytest.raises(IndexError, match="out of range"):
        model(torch.tensor([[5, wrong]]))


def test_another_order_of_the_weights_is_noticed() -> None:
    linear = nn.Linear(640, 512)
    matrix = PackedLinear(copy.deepcopy(linear))._matrix
    with torch.no_grad():
        assert WeightBlocks.of(matrix, linear.weight[:400]) is None
        linear.weight[511, 639] += 1
        assert WeightBlocks.of(matrix, linear.weight) is None


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
