from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from test_transformers_engine import PROMPTS, grow, request
from tiny_models import CONFIGS, greedy, make_engine, random_model

from langgraph_switch import ScriptedEngine
from langgraph_switch.engines.base import HiddenRequest, HiddenStateEngine
from langgraph_switch.errors import ContextLengthError, EngineError


def hidden(prefix: Sequence[int], row: str = "row", **fields: Any) -> HiddenRequest:
    return HiddenRequest(row=row, prefix=list(prefix), **fields)


def brute_force(model: Any, prefix: Sequence[int]) -> torch.Tensor:
    """Return what the output layer is given, of a pass over the whole prefix."""
    with torch.inference_mode():
        output = model(torch.tensor([list(prefix)]), output_hidden_states=True)
    state: torch.Tensor = output.hidden_states[-1][0, -1]
    return state


@pytest.mark.parametrize("kind", CONFIGS)
def test_states_of_a_batch_equal_a_pass_over_each_prefix_alone(kind: str) -> None:
    model = random_model(kind)
    engine = make_engine(model)
    for more in ([], [3, 4], [5]):  # From nothing, then from memory.
        prefixes = [[*prompt, *more] for prompt in PROMPTS]
        requests = [hidden(prefix, str(i)) for i, prefix in enumerate(prefixes)]
        for prefix, state in zip(prefixes, engine.last_hidden(requests), strict=True):
            assert state.shape == (engine.hidden_size,)
            torch.testing.assert_close(state, brute_force(model, prefix), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kv_cache_bytes", [2**30, 60_000, 0])
def test_memory_changes_no_state(kv_cache_bytes: int) -> None:
    model = random_model()
    engine = make_engine(model, kv_cache_bytes=kv_cache_bytes)
    for end in range(1, 12, 3):
        requests = [hidden([*p, *range(end)], str(i)) for i, p in enumerate(PROMPTS)]
        for one, state in zip(requests, engine.last_hidden(requests), strict=True):
            torch.testing.assert_close(state, brute_force(model, one.prefix), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("segment", [1, 7])
def test_looking_at_states_between_segments_changes_no_token(kind: str, segment: int) -> None:
    model = random_model(kind)
    engine, prompts = make_engine(model), PROMPTS[:3]
    texts = [list(prompt) for prompt in prompts]
    for _ in range(21 // segment):
        engine.last_hidden([hidden(text, str(i)) for i, text in enumerate(texts)])
        requests = [request(t, str(i), max_new_tokens=segment) for i, t in enumerate(texts)]
        for text, written in zip(texts, engine.generate(requests), strict=True):
            text.extend(written.token_ids)
    assert [t[len(p) :] for t, p in zip(texts, prompts, strict=True)] == [
        greedy(model, prompt, 21) for prompt in prompts
    ]


def test_who_goes_on_finds_all_but_the_last_token_computed() -> None:
    engine = make_engine(random_model())
    engine.last_hidden([hidden(PROMPTS[3])])
    first = engine.generate([request(PROMPTS[3])])[0]
    assert (first.cached_tokens, first.prefill_tokens) == (29, 1)
    # What others wrote is computed by whoever looks first.
    longer = [*PROMPTS[3], *first.token_ids, *range(20)]
    engine.last_hidden([hidden(longer)])
    assert engine.generate([request(longer)])[0].prefill_tokens == 1


def test_the_output_layer_is_not_asked() -> None:
    model = random_model()
    engine = make_engine(model)
    with torch.no_grad():
        model.get_output_embeddings().weight.fill_(float("nan"))
    assert bool(torch.isfinite(engine.last_hidden([hidden(PROMPTS[0])])[0]).all())


def test_a_fork_looks_from_its_parents_memory() -> None:
    model = random_model()
    engine = make_engine(model)
    engine.generate([request(PROMPTS[3], "parent")])
    children = [hidden([*PROMPTS[3], t], f"child {t}", fork_of="parent") for t in (1, 2)]
    for child, state in zip(children, engine.last_hidden(children), strict=True):
        torch.testing.assert_close(state, brute_force(model, child.prefix), atol=1e-5, rtol=1e-4)
        assert engine.generate([request(child.prefix, child.row)])[0].prefill_tokens == 1


def test_threads_may_look_while_others_write() -> None:
    model = random_model()
    engine = make_engine(model)
    found: dict[int, list[int]] = {}

    def write(index: int) -> None:
        found[index] = grow(engine, [PROMPTS[index]], [5, 5, 10])[0]

    def look(index: int) -> None:
        state = engine.last_hidden([hidden(PROMPTS[index], "0")])[0]
        torch.testing.assert_close(state, brute_force(model, PROMPTS[index]), atol=1e-5, rtol=1e-4)
        found[-index] = []

    threads = [
        threading.Thread(target=work, args=(i,)) for i in (1, 2, 3) for work in (write, look)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[i] for i in (1, 2, 3)] == [greedy(model, PROMPTS[i], 20) for i in (1, 2, 3)]
    assert {-1, -2, -3} < set(found)


def test_half_precision_states_arrive_as_float32() -> None:
    engine = make_engine(random_model().to(torch.bfloat16))
    assert engine.last_hidden([hidden(PROMPTS[0])])[0].dtype == torch.float32


def test_errors_are_those_of_any_other_call() -> None:
    assert make_engine(random_model()).last_hidden([]) == []
    small = make_engine(random_model(max_position_embeddings=32))
    with pytest.raises(ContextLengthError, match="1 too many"):
        small.last_hidden([hidden([1] * 33)])
    broken = random_model()
    with torch.no_grad():
        broken.get_input_embeddings().weight.fill_(float("nan"))
    with pytest.raises(EngineError, match=r"'tiny' computed NaN"):
        make_engine(broken).last_hidden([hidden(PROMPTS[0])])


def test_only_engines_that_show_states_say_so() -> None:
    assert isinstance(make_engine(random_model()), HiddenStateEngine)
    assert not isinstance(ScriptedEngine(), HiddenStateEngine)
