from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tiny_models import byte_tokenizer, greedy, make_engine, random_model
from transformers import PreTrainedModel

from langgraph_switch.config import ModelRef
from langgraph_switch.engines.base import GenerateRequest
from langgraph_switch.engines.pool import ModelPool
from langgraph_switch.engines.transformers_engine import TransformersEngine
from langgraph_switch.errors import ModelLoadError, UnsafeWeightsError

PROMPT = [5, 6, 7, 8]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    random_model().save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def save_adapter(folder: Path, seed: int) -> Path:
    config = LoraConfig(
        r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM"
    )
    model = random_model()
    torch.manual_seed(seed)
    get_peft_model(model, config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return [save_adapter(tmp_path_factory.mktemp(f"adapter{seed}"), seed) for seed in (1, 2)]


def merged(adapter: Path | None) -> PreTrainedModel:
    if adapter is None:
        return random_model()
    return PeftModel.from_pretrained(random_model(), str(adapter)).merge_and_unload()


def write(engine: TransformersEngine, num_tokens: int = 20) -> list[int]:
    request = GenerateRequest(row="x", prefix=PROMPT, response_start=4, max_new_tokens=num_tokens)
    return list(engine.generate([request])[0].token_ids)


def open_engines(base: Path, adapters: list[Path]) -> tuple[ModelPool, list[TransformersEngine]]:
    pool = ModelPool(kv_cache_bytes=2**30)
    refs = [ModelRef(model=str(base), adapter=str(a) if a else None) for a in (None, *adapters)]
    return pool, [pool.engine(ref, name=str(i)) for i, ref in enumerate(refs)]


def test_adapters_share_their_base_and_write_as_merged_models_do(
    base: Path, adapters: list[Path]
) -> None:
    pool, engines = open_engines(base, adapters)
    expected = [greedy(merged(a), PROMPT, 20) for a in (None, *adapters)]
    assert len({tuple(tokens) for tokens in expected}) == 3
    for order in ([0, 1, 2], [2, 0, 1], [1, 1, 0]):
        assert [write(engines[i]) for i in order] == [expected[i] for i in order]
    assert pool.num_models == 1
    assert len({id(engine._shared.module) for engine in engines}) == 1


def test_threads_on_one_base_do_not_mix_adapters_up(base: Path, adapters: list[Path]) -> None:
    _, engines = open_engines(base, adapters)
    expected = [write(engine) for engine in engines]
    found: list[list[Any]] = [[] for _ in engines]

    def work(index: int) -> None:
        for _ in range(5):
            found[index].append(write(engines[index]))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(engines))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[tokens] * 5 for tokens in expected]


def test_the_same_weights_are_one_engine(base: Path) -> None:
    pool = ModelPool(kv_cache_bytes=2**30)
    engines = [pool.engine(ModelRef(model=str(base)), name=name) for name in ("a", "b")]
    assert engines[0] is engines[1]


def test_a_pickled_adapter_is_refused(base: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter_model.bin").write_bytes(b"pickle")
    pool = ModelPool(kv_cache_bytes=2**30)
    with pytest.raises(UnsafeWeightsError, match=r"pickled weights only \(adapter_model.bin\)"):
        pool.engine(ModelRef(model=str(base), adapter=str(tmp_path)), name="x")


def test_a_missing_adapter_leaves_the_base_usable(base: Path, tmp_path: Path) -> None:
    pool = ModelPool(kv_cache_bytes=2**30)
    with pytest.raises(ModelLoadError, match="Cannot load"):
        pool.engine(ModelRef(model=str(base), adapter=str(tmp_path / "none")), name="x")
    engine = pool.engine(ModelRef(model=str(base)), name="x")
    assert write(engine) == greedy(random_model(), PROMPT, 20)


def test_an_engine_made_by_hand_equals_a_loaded_one(base: Path) -> None:
    pool = ModelPool(kv_cache_bytes=2**30)
    assert write(pool.engine(ModelRef(model=str(base)), name="x")) == write(
        make_engine(random_model())
    )
