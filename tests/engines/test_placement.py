from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
import torch
from tiny_models import byte_tokenizer, greedy, random_model
from torch import Tensor
from transformers import PreTrainedModel

from langgraph_switch.config import ModelRef, SwitchConfig
from langgraph_switch.engines.base import GenerateRequest
from langgraph_switch.engines.models import SharedModel, load_shared_model
from langgraph_switch.engines.placement import DeviceTurn, Placement
from langgraph_switch.engines.pool import ModelPool, base_weights
from langgraph_switch.engines.tokenizer import HFTokenizer
from langgraph_switch.engines.transformers_engine import TransformersEngine
from langgraph_switch.errors import ConfigError, EngineOutOfMemoryError, UnsafeWeightsError

CPU, CARD = torch.device("cpu"), torch.device("cuda", 7)
PROMPT = [5, 6, 7, 8]


class Mover:
    """Stands in for a second device: copies stay on the CPU, so that models can compute."""

    def __init__(self) -> None:
        self.num_moved = 0

    def __call__(self, tensor: Tensor, _: torch.device) -> Tensor:
        self.num_moved += 1
        return tensor.clone()


def visiting(seed: int, move: Mover) -> tuple[TransformersEngine, Placement]:
    model = random_model(seed=seed)
    tokenizer = HFTokenizer(byte_tokenizer())
    placement = Placement(model, device=CPU, is_offloaded=True, source=f"m{seed}", move=move)
    shared = SharedModel(model, source=f"m{seed}", tokenizer=tokenizer, placement=placement)
    return TransformersEngine(shared, tokenizer), placement


def write(engine: TransformersEngine) -> list[int]:
    request = GenerateRequest(row="x", prefix=PROMPT, response_start=4, max_new_tokens=20)
    return list(engine.generate([request])[0].token_ids)


def test_offloaded_models_take_turns_and_write_what_resident_ones_do() -> None:
    move = Mover()
    pairs = [visiting(seed, move) for seed in (0, 1)]
    expected = [greedy(random_model(seed=seed), PROMPT, 20) for seed in (0, 1)]
    for index in (0, 1, 1, 0):
        engine, placement = pairs[index]
        assert write(engine) == expected[index]
        assert placement.is_resident
        assert not pairs[1 - index][1].is_resident


def test_who_keeps_the_floor_is_not_moved_again() -> None:
    move = Mover()
    engine, _ = visiting(0, move)
    write(engine)
    once = move.num_moved
    write(engine)
    assert move.num_moved == once > 0


def storages(model: PreTrainedModel) -> list[int]:
    return [one.data_ptr() for one in [*model.parameters(), *model.buffers()]]


def test_one_is_there_at_a_time_and_nothing_is_copied_back() -> None:
    first, second = random_model(seed=0), random_model(seed=1)
    homes = [storages(first), storages(second)]
    move = Mover()
    places = [Placement(one, device=CARD, is_offloaded=True, move=move) for one in (first, second)]
    places[0].arrive()
    assert not set(storages(first)) & set(homes[0])
    places[1].arrive()
    assert storages(first) == homes[0]
    assert not set(storages(second)) & set(homes[1])
    num_moved = move.num_moved
    places[1].leave()
    assert storages(second) == homes[1]
    assert move.num_moved == num_moved


def test_a_device_that_is_too_small_leaves_the_model_whole() -> None:
    model = random_model()
    home = storages(model)
    left = 3

    def too_small(tensor: Tensor, _: torch.device) -> Tensor:
        nonlocal left
        left -= 1
        if left == 0:
            raise torch.OutOfMemoryError("no room")
        return tensor.clone()

    placement = Placement(model, device=CARD, is_offloaded=True, source="big", move=too_small)
    with pytest.raises(EngineOutOfMemoryError, match=r"cuda:7 has too little memory.*'big'"):
        placement.arrive()
    assert left == 0
    assert storages(model)[:2] == home[:2]
    assert not placement.is_resident


def test_a_spread_model_holds_all_of_its_devices() -> None:
    model = random_model()
    model.hf_device_map = {"model.embed_tokens": 0, "model.layers": 1, "lm_head": "cpu"}
    placement = Placement(model)
    assert [str(one) for one in placement.devices] == ["cuda:0", "cuda:1", "cpu"]
    assert str(placement.device) == "cuda:0"


def test_turns_over_shared_devices_do_not_deadlock() -> None:
    a, b = torch.device("cuda", 0), torch.device("cuda", 1)
    turns = [DeviceTurn([a, b]), DeviceTurn([b, a]), DeviceTurn([a]), DeviceTurn([b])]
    inside: list[int] = []

    def work(turn: DeviceTurn) -> None:
        for _ in range(200):
            with turn, turn:
                inside.append(1)

    threads = [threading.Thread(target=work, args=(turn,), daemon=True) for turn in turns]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert len(inside) == 800


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    random_model().save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    return tmp_path


def test_accelerate_places_a_model(checkpoint: Path) -> None:
    pool = ModelPool(kv_cache_bytes=2**30)
    plain = pool.engine(ModelRef(model=str(checkpoint)), name="plain")
    placed = pool.engine(ModelRef(model=str(checkpoint), device_map={"": "cpu"}), name="placed")
    assert pool.num_models == 2
    assert write(placed) == write(plain) == greedy(random_model(), PROMPT, 20)


def test_offload_to_the_device_itself_is_nothing(checkpoint: Path) -> None:
    model = load_shared_model(str(checkpoint), device="cpu", offload="cpu")
    assert model.placement.is_resident
    assert model.placement.devices == (CPU,)


def test_copies_are_told_apart_by_where_they_are() -> None:
    refs = [{}, {"device_map": "auto"}, {"offload": "cpu"}, {"device": "cpu"}]
    keys = {base_weights(ModelRef(model="m", **one)) for one in refs}
    assert len(keys) == len(refs)


def test_two_places_are_refused() -> None:
    spec = {"model": "m", "device_map": "auto", "offload": "cpu"}
    pair = [{"name": "a", **spec}, {"name": "b", "model": "m"}]
    with pytest.raises(ConfigError, match="places all of a model"):
        SwitchConfig.from_dict({"candidates": pair})


CODE = """
import pathlib
from transformers import LlamaConfig, LlamaForCausalLM
pathlib.Path({marker!r}).touch()
class OwnConfig(LlamaConfig):
    model_type = "own"
class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig
"""


def test_own_code_runs_by_consent_alone(checkpoint: Path, tmp_path: Path) -> None:
    marker = tmp_path / "was_run"
    (checkpoint / "own.py").write_text(CODE.format(marker=str(marker)))
    described = json.loads((checkpoint / "config.json").read_text())
    described["model_type"] = "own"
    described["auto_map"] = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    (checkpoint / "config.json").write_text(json.dumps(described))
    pool = ModelPool(kv_cache_bytes=2**30)
    ref = ModelRef(model=str(checkpoint), dtype="float32")
    with pytest.raises(UnsafeWeightsError, match="--trust-remote-code NAME"):
        pool.engine(ref, name="own")
    assert not marker.exists()
    allowed = pool.engine(ref, name="own", trust_remote_code=True)
    assert marker.exists()
    assert write(allowed) == greedy(random_model(), PROMPT, 20)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_consent_to_a_models_own_code_is_none_to_another_repos(checkpoint: Path, name: str) -> None:
    described = json.loads((checkpoint / name).read_text())
    described["auto_map"] = {"AutoModelForCausalLM": ["somebody/else--evil.Model", None]}
    (checkpoint / name).write_text(json.dumps(described))
    ref = ModelRef(model=str(checkpoint))
    with pytest.raises(UnsafeWeightsError, match=f"{name}.*'somebody/else'"):
        ModelPool(kv_cache_bytes=2**30).engine(ref, name="own", trust_remote_code=True)
