"""One pass serves rows of different adapters, and says what each adapter says alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tiny_models import byte_tokenizer, random_model, switch_config
from torch import nn

from langgraph_switch.config import ModelRef
from langgraph_switch.engines.adapter_stack import AdapterStack, RowAdapters, can_stack
from langgraph_switch.engines.base import Continuation, GenerateRequest, LabelRequest, NewToken
from langgraph_switch.engines.mixed_batch import MixedRowBatch
from langgraph_switch.engines.placement import Placement
from langgraph_switch.engines.pool import ModelPool
from langgraph_switch.engines.sharing import (
    Gathering,
    MeetingEngine,
    Part,
    Rendezvous,
    generate_all,
)
from langgraph_switch.engines.transformers_engine import TransformersEngine
from langgraph_switch.graph import build_graph
from langgraph_switch.loop import finish_traces
from langgraph_switch.queries import trace_from_query
from langgraph_switch.switch import Switch
from langgraph_switch.switchers.base import Turn

LINEAR = {"r": 4, "lora_alpha": 9, "target_modules": ["q_proj", "v_proj", "down_proj"]}
WHOLE = {"r": 3, "target_modules": ["up_proj", "v_proj"], "modules_to_save": ["norm"]}
EMBEDDING = {"r": 5, "target_modules": ["embed_tokens", "lm_head", "k_proj"]}


def save_adapter(folder: Path, seed: int, settings: dict[str, Any]) -> Path:
    model = random_model(tie_word_embeddings=True)
    torch.manual_seed(seed)
    config = LoraConfig(
        init_lora_weights=False,
        task_type="CAUSAL_LM",
        ensure_weight_tying="embed_tokens" in settings["target_modules"],
        **settings,
    )
    adapted = get_peft_model(model, config)
    for name, parameter in adapted.named_parameters():
        if "modules_to_save" in name or "lora_embedding" in name:
            parameter.data += 0.3 * torch.randn_like(parameter)
    adapted.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    base = tmp_path_factory.mktemp("base")
    random_model(tie_word_embeddings=True).save_pretrained(base)
    byte_tokenizer().save_pretrained(base)
    kinds = (LINEAR, WHOLE, EMBEDDING)
    adapters = [
        save_adapter(tmp_path_factory.mktemp(f"adapter{seed}"), seed, kind)
        for seed, kind in enumerate(kinds)
    ]
    return base, adapters


@pytest.fixture
def engines(folders: tuple[Path, list[Path]]) -> list[TransformersEngine]:
    base, adapters = folders
    pool = ModelPool(kv_cache_bytes=2**30)
    refs = [ModelRef(model=str(base), adapter=str(a) if a else None) for a in (None, *adapters)]
    return [pool.engine(ref, name=str(i)) for i, ref in enumerate(refs)]


def requests(row: str, lengths: Sequence[int], **fields: Any) -> list[GenerateRequest]:
    return [
        GenerateRequest(
            row=f"{row}/{length}",
            prefix=[(7 * length + 3 * i) % 250 for i in range(length)],
            response_start=length,
            **({"max_new_tokens": 6 + length % 9} | fields),
        )
        for length in lengths
    ]


LENGTHS = ([3, 11], [5], [8, 20, 2], [13])


def alone(engines: Sequence[TransformersEngine], **fields: Any) -> list[list[Continuation]]:
    return [
        [engine.generate([one])[0] for one in requests("alone", lengths, **fields)]
        for engine, lengths in zip(engines, LENGTHS, strict=True)
    ]


def tokens(found: Sequence[Sequence[Continuation]]) -> list[list[tuple[int, ...]]]:
    return [[one.token_ids for one in part] for part in found]


@pytest.fixture
def batches() -> Iterator[mock.Mock]:
    with mock.patch(
        "langgraph_switch.engines.transformers_engine.MixedRowBatch", wraps=MixedRowBatch
    ) as spy:
        yield spy


def test_a_mixed_pass_equals_pefts_own(tmp_path: Path) -> None:
    base = random_model(tie_word_embeddings=True)
    other = {"r": 3, "target_modules": ["up_proj", "v_proj"]}  # peft cannot mix whole norms.
    one, two = (save_adapter(tmp_path / str(i), i, kind) for i, kind in enumerate((LINEAR, other)))
    adapted = PeftModel.from_pretrained(base, one, adapter_name="x")
    adapted.load_adapter(two, adapter_name="y")
    adapted.eval()
    names = ["y", None, "x", "x", "y"]
    ids = torch.randint(0, 250, (len(names), 7))
    with torch.inference_mode():
        expected = adapted(ids, adapter_names=[name or "__base__" for name in names]).logits
        assert can_stack(base)
        stack, rows = AdapterStack(base), RowAdapters(names, torch.device("cpu"))
        with stack.using(rows):
            torch.testing.assert_close(base(ids).logits, expected, rtol=1e-4, atol=1e-4)
            rows.select([0, 2])
            kept = base(ids[[0, 2]]).logits
        torch.testing.assert_close(kept, expected[[0, 2]], rtol=1e-4, atol=1e-4)
        adapted.set_adapter("x")  # Outside of a mixed pass peft goes on as ever.
        torch.testing.assert_close(base(ids).logits[2:4], expected[2:4], rtol=1e-4, atol=1e-4)


def test_stacked_factors_are_held_once(engines: list[TransformersEngine]) -> None:
    shared = engines[0]._shared
    for _ in shared.stack()._stacked:
        pytest.fail("only layers hold stacked factors")
    layers = [m for m in shared.module.modules() if hasattr(m, "lora_A") and m.lora_A]
    for layer in layers:
        storages = {a.weight.untyped_storage().data_ptr() for a in layer.lora_A.values()}
        assert len(storages) == 1
    embedding = shared.module.get_input_embeddings()
    head = shared.module.get_output_embeddings()
    name = next(iter(embedding.lora_embedding_A))
    assert head.lora_A[name].weight.data_ptr() == embedding.lora_embedding_B[name].data_ptr()


def test_parts_for_adapters_of_a_base_are_one_batch(
    engines: list[TransformersEngine], batches: mock.Mock
) -> None:
    expected = alone(engines)
    assert len({part[0] for part in tokens(alone(engines))}) == 4
    heard: list[tuple[int, int, int]] = []

    def listener(engine: int) -> Any:
        return lambda index, token: heard.append((engine, index, token.token_id))

    parts = [
        Part(engine, requests("x", lengths), listener(i))
        for i, (engine, lengths) in enumerate(zip(engines, LENGTHS, strict=True))
    ]
    found = generate_all(parts)
    assert tokens(found) == tokens(expected)
    assert batches.call_count == 1
    for i, part in enumerate(found):
        for index, one in enumerate(part):
            assert [t for e, n, t in heard if (e, n) == (i, index)] == list(one.token_ids)
    assert [engine.num_rows for engine in engines] == [2 + 2, 1 + 1, 3 + 3, 1 + 1]


def test_a_model_that_visits_its_device_serves_one_adapter_at_a_time(
    folders: tuple[Path, list[Path]], engines: list[TransformersEngine], batches: mock.Mock
) -> None:
    base, adapters = folders
    pool = ModelPool(kv_cache_bytes=2**30)
    refs = [ModelRef(model=str(base), adapter=str(adapter)) for adapter in adapters]
    offloaded = [pool.engine(ref, name=str(ref.adapter)) for ref in refs]
    shared = offloaded[0].model
    shared.placement = Placement(
        shared.module, device=torch.device("cpu"), is_offloaded=True, source="base"
    )
    assert not shared.placement.is_in_one_place
    parts = [Part(e, requests("x", n)) for e, n in zip(offloaded, LENGTHS[1:], strict=True)]
    assert tokens(generate_all(parts)) == tokens(alone(engines))[1:]
    assert batches.call_count == 0


def test_rows_go_on_behind_a_mixed_pass(engines: list[TransformersEngine]) -> None:
    first = generate_all([Part(e, requests("x", n)) for e, n in zip(engines, LENGTHS, strict=True)])
    longer = []
    for lengths, written in zip(LENGTHS, first, strict=True):
        longer.append(
            [
                GenerateRequest(
                    row=one.row,
                    prefix=[*one.prefix, *done.token_ids, 9, 8],
                    response_start=one.response_start,
                    max_new_tokens=12,
                )
                for one, done in zip(requests("x", lengths), written, strict=True)
            ]
        )
    mixed = generate_all([Part(e, part) for e, part in zip(engines, longer, strict=True)])
    assert all(one.cached_tokens > 0 for part in mixed for one in part)
    for engine, part, found in zip(engines, longer, mixed, strict=True):
        engine.release([one.row for one in part])
        assert [engine.generate([one])[0].token_ids for one in part] == [
            one.token_ids for one in found
        ]


def test_sampled_tokens_are_the_same_mixed_or_alone(engines: list[TransformersEngine]) -> None:
    from langgraph_switch.config import Sampling  # noqa: PLC0415

    fields = {"sampling": Sampling(temperature=1.0, top_p=0.9), "seed": 5}
    parts = [Part(e, requests("x", n, **fields)) for e, n in zip(engines, LENGTHS, strict=True)]
    assert tokens(generate_all(parts)) == tokens(alone(engines, **fields))


def test_threads_that_meet_share_a_pass(
    engines: list[TransformersEngine], batches: mock.Mock
) -> None:
    expected = alone(engines)
    place = Rendezvous(len(engines))
    with ThreadPoolExecutor(len(engines)) as pool:
        futures = [
            pool.submit(MeetingEngine(engine, place).generate, requests("x", lengths))
            for engine, lengths in zip(engines, LENGTHS, strict=True)
        ]
        found = [future.result() for future in futures]
    assert tokens(found) == tokens(expected)
    assert batches.call_count == 1


def test_nobody_waits_long_for_a_thread_that_does_not_come(
    engines: list[TransformersEngine],
) -> None:
    expected = alone(engines)[1]
    place = Rendezvous(2)
    assert tokens([MeetingEngine(engines[1], place).generate(requests("x", LENGTHS[1]))]) == tokens(
        [expected]
    )
    place.wait()  # Whoever comes late does not wait at all.


def test_a_gathering_hands_out_a_place_per_step() -> None:
    gathering = Gathering()
    assert gathering.join(("run", 0), ("a",)) is None
    first, second = (gathering.join(("run", 0), ("a", "b")) for _ in range(2))
    assert first is second
    assert gathering.join(("run", 1), ("a", "b")) is not first
    other = gathering.join(("other", 1), ("a", "b"))
    gathering.join(("run", 2), ("a", "b"))  # Forgets the step of its run that was left open.
    assert set(gathering._open) == {(("other", 1), ("a", "b")), (("run", 2), ("a", "b"))}
    assert gathering.join(("other", 1), ("a", "b")) is other


def test_labels_are_scored_alike_after_mixed_passes(engines: list[TransformersEngine]) -> None:
    label = LabelRequest(row="s", prefix=[1, 2, 3], labels=((5,), (6,), (5, 7)))
    before = [engine.label_logprobs([label])[0] for engine in engines]
    generate_all([Part(e, requests("x", n)) for e, n in zip(engines, LENGTHS, strict=True)])
    for engine, expected in zip(engines, before, strict=True):
        engine.release(["s"])
        assert engine.label_logprobs([label])[0] == pytest.approx(expected, abs=1e-4)


def test_what_cannot_be_stacked_is_computed_apart(
    engines: list[TransformersEngine], batches: mock.Mock
) -> None:
    expected = alone(engines)
    heard: list[tuple[int, int]] = []

    def on_token(index: int, token: NewToken) -> None:
        heard.append((index, token.token_id))

    with mock.patch.object(engines[0]._shared, "can_mix", return_value=False):
        found = generate_all(
            [
                Part(e, requests("x", n), on_token if i == 2 else None)
                for i, (e, n) in enumerate(zip(engines, LENGTHS, strict=True))
            ]
        )
    assert tokens(found) == tokens(expected)
    assert not batches.called
    for index, one in enumerate(found[2]):
        assert [token for i, token in heard if i == index] == list(one.token_ids)


def test_dora_and_experts_cannot_be_stacked() -> None:
    dora = LoraConfig(r=2, target_modules=["q_proj"], use_dora=True, task_type="CAUSAL_LM")
    assert not can_stack(get_peft_model(random_model(), dora))

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.experts = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])

    routed = get_peft_model(
        nn.Sequential(Block()), LoraConfig(r=2, target_modules=["experts.0", "experts.1"])
    )
    assert not can_stack(routed)


@pytest.fixture
def switch(engines: list[TransformersEngine]) -> Switch:
    names = ("a", "b", "c", "d")
    config = switch_config(
        names, switcher={"kind": "random"}, anchor={"first": False, "last": False}
    )
    return Switch(config, engines=dict(zip(names, engines, strict=True)))


QUERIES = [{"query": f"question {i} {'?' * i}", "seed": i} for i in range(6)]


def test_the_loop_and_the_graph_share_passes_and_write_the_same(
    switch: Switch, batches: mock.Mock
) -> None:
    with mock.patch(
        "langgraph_switch.engines.sharing.groups",
        lambda engines: [[i] for i in range(len(engines))],
    ):
        turns = [
            Turn(trace_from_query(query, switch.config), f"apart/{i}")
            for i, query in enumerate(QUERIES)
        ]
        apart = [trace.text for trace in finish_traces(switch, turns)]
    assert not batches.called
    turns = [replace_row(turn, f"loop/{i}") for i, turn in enumerate(turns)]
    assert [trace.text for trace in finish_traces(switch, turns)] == apart
    assert (num_loop := batches.call_count) > 0
    graph = build_graph(switch)
    state = graph.invoke({"queries": QUERIES}, {"recursion_limit": 200})
    assert ["".join(s["text"] for s in t["segments"]) for t in state["traces"]] == apart
    assert batches.call_count == 2 * num_loop


def replace_row(turn: Turn, row: str) -> Turn:
    return Turn(turn.trace, row)
