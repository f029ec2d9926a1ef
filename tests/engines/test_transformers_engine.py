from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from tiny_models import CONFIGS, byte_tokenizer, greedy, make_engine, random_model

from langgraph_switch.config import Sampling
from langgraph_switch.engines import batch as batch_module
from langgraph_switch.engines.base import Continuation, GenerateRequest, LabelRequest, NewToken
from langgraph_switch.engines.memory import BLOCK_TOKENS, kv_bytes_per_token, row_capacity
from langgraph_switch.engines.transformers_engine import TransformersEngine
from langgraph_switch.errors import ContextLengthError, EngineError, EngineOutOfMemoryError

PROMPTS = [[1, 2, 3, 4, 5], [7] * 11, [9, 8], [65] * 30, [4, 4, 2], [200], [12, 13], [99] * 17]
NUM_TOKENS = 50


def request(prefix: Sequence[int], row: str = "row", **fields: Any) -> GenerateRequest:
    defaults: dict[str, Any] = {"response_start": len(prefix), "max_new_tokens": 10}
    return GenerateRequest(row=row, prefix=list(prefix), **(defaults | fields))


def grow(engine: TransformersEngine, prompts: list[list[int]], lengths: list[int]) -> list[Any]:
    """Continue all prompts by segments, in changing order; return the new tokens."""
    texts = [list(prompt) for prompt in prompts]
    for number, length in enumerate(lengths):
        order = sorted(range(len(texts)), key=lambda i: (i * 7 + number) % len(texts))
        requests = [request(texts[i], str(i), max_new_tokens=length) for i in order]
        for i, continuation in zip(order, engine.generate(requests), strict=True):
            texts[i].extend(continuation.token_ids)
    return [text[len(prompt) :] for text, prompt in zip(texts, prompts, strict=True)]


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("segment", [1, 7, 50])
def test_segments_of_any_length_equal_plain_generate(kind: str, segment: int) -> None:
    model = random_model(kind)
    prompts = PROMPTS[:3]
    lengths = [min(segment, NUM_TOKENS - done) for done in range(0, NUM_TOKENS, segment)]
    expected = [greedy(model, prompt, NUM_TOKENS) for prompt in prompts]
    assert grow(make_engine(model), prompts, lengths) == expected


@pytest.mark.parametrize("batch_size", [1, 3, 8])
@pytest.mark.parametrize("kv_cache_bytes", [2**30, 60_000, 0])
def test_memory_changes_nothing(batch_size: int, kv_cache_bytes: int) -> None:
    model = random_model()
    prompts = PROMPTS[:batch_size]
    engine = make_engine(model, kv_cache_bytes=kv_cache_bytes)
    expected = [greedy(model, prompt, 30) for prompt in prompts]
    assert grow(engine, prompts, [10, 3, 17]) == expected
    assert engine.kv_bytes <= kv_cache_bytes


def test_only_the_new_tokens_are_computed() -> None:
    engine = make_engine(random_model())
    first = engine.generate([request(PROMPTS[1])])[0]
    assert (first.prefill_tokens, first.cached_tokens) == (11, 0)
    longer = [*PROMPTS[1], *first.token_ids, 5, 6, 7]
    second = engine.generate([request(longer)])[0]
    assert second.cached_tokens == 11 + 9  # The tenth new token was never fed.
    assert second.prefill_tokens == 4


def test_a_changed_prefix_is_computed_anew_from_where_it_differs() -> None:
    model = random_model()
    engine = make_engine(model)
    engine.generate([request([1, 2, 3, 4, 5, 6])])
    changed = engine.generate([request([1, 2, 3, 9, 9])])[0]
    assert changed.cached_tokens == 3
    assert list(changed.token_ids) == greedy(model, [1, 2, 3, 9, 9], 10)


def test_a_fork_starts_from_its_parents_memory_and_goes_its_own_way() -> None:
    model = random_model()
    engine = make_engine(model)
    parent = [*PROMPTS[3]]
    engine.generate([request(parent, "parent")])
    children = [request([*parent, token], f"child {token}", fork_of="parent") for token in (1, 2)]
    results = engine.generate(children)
    assert [r.cached_tokens for r in results] == [30, 30]
    for child, result in zip(children, results, strict=True):
        assert list(result.token_ids) == greedy(model, child.prefix, 10)
    again = engine.generate([request(parent, "parent")])[0]
    assert list(again.token_ids) == greedy(model, parent, 10)


def test_rows_that_end_early_do_not_disturb_the_others() -> None:
    model = random_model()
    lengths = [1, 2, 3, 5, 8, 13, 21, 34]
    expected = [greedy(model, p, n) for p, n in zip(PROMPTS, lengths, strict=True)]
    engine = make_engine(model)
    requests = [
        request(p, str(i), max_new_tokens=n)
        for i, (p, n) in enumerate(zip(PROMPTS, lengths, strict=True))
    ]
    results = engine.generate(requests)
    assert [list(r.token_ids) for r in results] == expected
    # What the dropped rows left behind is right, too.
    longer = [[*p, *e] for p, e in zip(PROMPTS, expected, strict=True)]
    assert grow(engine, longer, [6]) == [greedy(model, p, 6) for p in longer]


def test_a_long_prompt_is_computed_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_module, "_CHUNK_TOKENS", 8)
    model = random_model()
    prompts = [[5, 6, 7] * 20, [8] * 3, [1, 2] * 13]
    assert grow(make_engine(model), prompts, [5, 9]) == [greedy(model, p, 14) for p in prompts]


def test_an_eos_ends_a_row_and_is_no_part_of_it() -> None:
    model = random_model()
    expected = greedy(model, PROMPTS[0], 20)
    eos = expected[6]
    result = make_engine(model).generate(
        [request(PROMPTS[0], max_new_tokens=20, eos_token_ids=(eos,))]
    )[0]
    assert list(result.token_ids) == expected[: expected.index(eos)]
    assert result.finish_reason == "eos"


def test_masked_tokens_never_appear() -> None:
    model = random_model()
    masked = tuple(set(greedy(model, PROMPTS[0], 20)))
    for sampling in (Sampling(temperature=0), Sampling(temperature=2, top_p=1)):
        result = make_engine(model).generate(
            [
                request(PROMPTS[0], max_new_tokens=40, masked_token_ids=masked, sampling=sampling),
                request(PROMPTS[1], "other", max_new_tokens=40, sampling=sampling),
            ]
        )[0]
        assert not set(result.token_ids) & set(masked)


def test_a_seed_gives_the_same_tokens_in_any_batch() -> None:
    sampling = Sampling(temperature=1.3, top_p=0.9, top_k=50)
    requests = [
        request(p, str(i), seed=i, sampling=sampling, max_new_tokens=25)
        for i, p in enumerate(PROMPTS)
    ]
    together = make_engine(random_model()).generate(requests)
    backwards = make_engine(random_model()).generate(requests[::-1])[::-1]
    alone = [make_engine(random_model()).generate([one])[0] for one in requests]
    tokens = [[r.token_ids for r in run] for run in (together, backwards, alone)]
    assert tokens[0] == tokens[1] == tokens[2]
    assert len(set(tokens[0])) == len(PROMPTS)


def test_greedy_and_sampled_rows_share_a_batch() -> None:
    model = random_model()
    requests = [
        request(PROMPTS[0], "greedy", max_new_tokens=20),
        request(PROMPTS[1], "drawn", max_new_tokens=20, sampling=Sampling(), seed=3),
    ]
    results = make_engine(model).generate(requests)
    assert list(results[0].token_ids) == greedy(model, PROMPTS[0], 20)


@pytest.mark.parametrize("segment", [1, 2, 3, 50])
@pytest.mark.parametrize("start", [0, 9, 20])
def test_a_stop_string_is_found_across_tokens_and_segments(segment: int, start: int) -> None:
    model, tokenizer = random_model(), byte_tokenizer()
    letters = [i for i in range(256) if tokenizer.decode([i]).isalpha()]
    masked = tuple(sorted(set(range(300)) - set(letters)))
    fields: dict[str, Any] = {"response_start": len(PROMPTS[0]), "masked_token_ids": masked}
    whole = make_engine(model).generate([request(PROMPTS[0], max_new_tokens=40, **fields)])[0]
    stop = whole.text[start : start + 4]
    engine, prefix, written = make_engine(model), list(PROMPTS[0]), ""
    for _ in range(40):
        one = request(prefix, max_new_tokens=segment, stop=("no such text", stop), **fields)
        result = engine.generate([one])[0]
        prefix.extend(result.token_ids)
        written += result.text
        if result.finish_reason == "stop":
            break
    assert written == whole.text[: whole.text.index(stop) + 4]


def test_pieces_of_text_add_up_to_decoding_all_tokens() -> None:
    model = random_model(vocab_size=256)
    engine = make_engine(model)
    prefix, pieces = list(PROMPTS[0]), ""
    pending = ""
    for length in (1, 2, 3, 5, 1, 1, 7, 20):
        streamed: list[str] = []
        result = engine.generate(
            [request(prefix, response_start=len(PROMPTS[0]), max_new_tokens=length)],
            lambda _, token, streamed=streamed: streamed.append(token.text),
        )[0]
        assert "".join(streamed) == result.text
        prefix.extend(result.token_ids)
        pieces += result.text
        pending = result.pending_text
    assert pieces + pending == byte_tokenizer().decode(prefix[len(PROMPTS[0]) :])


def logprob(model: Any, prefix: Sequence[int], label: Sequence[int]) -> float:
    with torch.inference_mode():
        logits = model(torch.tensor([[*prefix, *label]])).logits[0]
    steps = torch.log_softmax(logits.float(), dim=-1)
    return float(sum(steps[len(prefix) - 1 + i, token] for i, token in enumerate(label)))


def test_labels_are_scored_in_one_pass_as_one_by_one() -> None:
    model = random_model()
    engine = make_engine(model)
    labels = ((5,), (5, 6), (5, 6, 7), (5, 8), (9,), (3, 3))
    for repeat in range(2):  # The second time from memory.
        requests = [
            LabelRequest(row=str(i), prefix=[*p, *([4] * repeat)], labels=labels)
            for i, p in enumerate(PROMPTS[:4])
        ]
        for one, scores in zip(requests, engine.label_logprobs(requests), strict=True):
            full = {label: logprob(model, one.prefix, label) for label in labels}
            exact = {label: torch.tensor(full[label]).exp() for label in labels}
            expected = [
                exact[5,] - exact[5, 6] - exact[5, 8],
                exact[5, 6] - exact[5, 6, 7],
                exact[5, 6, 7],
                exact[5, 8],
                exact[9,],
                exact[3, 3],
            ]
            found = torch.tensor(scores).exp()
            torch.testing.assert_close(found, torch.stack(expected), atol=1e-5, rtol=1e-3)
            assert float(found.sum()) <= 1


def test_labels_and_segments_may_share_a_row() -> None:
    model = random_model()
    engine = make_engine(model)
    engine.label_logprobs([LabelRequest(row="x", prefix=PROMPTS[1], labels=((5,), (5, 6)))])
    result = engine.generate([request(PROMPTS[1], "x")])[0]
    assert result.cached_tokens == 10
    assert list(result.token_ids) == greedy(model, PROMPTS[1], 10)


def test_threads_get_the_same_as_calls_in_a_row() -> None:
    model = random_model()
    engine = make_engine(model)
    expected = [greedy(model, p, 20) for p in PROMPTS]
    found: dict[int, list[int]] = {}

    def work(index: int) -> None:
        found[index] = grow(engine, [PROMPTS[index]], [5, 5, 10])[0]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(PROMPTS))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # `grow` names its only row "0": the threads fight for one row, and all are right.
    assert [found[i] for i in range(len(PROMPTS))] == expected


def test_too_long_a_prefix_is_refused_with_figures() -> None:
    engine = make_engine(random_model(max_position_embeddings=32))
    with pytest.raises(ContextLengthError) as caught:
        engine.generate([request([1] * 30, max_new_tokens=10)])
    assert (caught.value.num_tokens, caught.value.max_tokens) == (40, 32)
    assert "8 too many" in str(caught.value)
    with pytest.raises(ContextLengthError):
        engine.label_logprobs([LabelRequest(row="x", prefix=[1] * 32, labels=((1,),))])


def test_nan_is_an_error_that_names_the_model() -> None:
    model = random_model()
    with torch.no_grad():
        model.get_output_embeddings().weight.fill_(float("nan"))
    with pytest.raises(EngineError, match=r"'tiny' computed NaN"):
        make_engine(model).generate([request(PROMPTS[0])])


def test_out_of_memory_names_the_model_and_what_to_lower(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model()
    engine = make_engine(model)

    def fail(**_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(model, "forward", fail)
        with pytest.raises(EngineOutOfMemoryError, match=r"(?s)'tiny' ran out.*live_traces"):
            engine.generate([request(PROMPTS[0])])
    assert list(engine.generate([request(PROMPTS[0])])[0].token_ids) == greedy(
        model, PROMPTS[0], 10
    )


def test_an_exception_in_a_listener_leaves_the_engine_usable() -> None:
    model = random_model()
    engine = make_engine(model)
    seen: list[NewToken] = []

    def listen(_: int, token: NewToken) -> None:
        seen.append(token)
        if len(seen) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.generate([request(PROMPTS[0]), request(PROMPTS[1], "b")], listen)
    results = engine.generate([request(PROMPTS[0]), request(PROMPTS[1], "b")])
    assert [list(r.token_ids) for r in results] == [greedy(model, p, 10) for p in PROMPTS[:2]]


def test_released_rows_are_gone() -> None:
    engine = make_engine(random_model())
    engine.generate([request(p, str(i)) for i, p in enumerate(PROMPTS)])
    assert engine.num_rows == len(PROMPTS)
    engine.release([*(str(i) for i in range(len(PROMPTS))), "unknown"])
    assert (engine.num_rows, engine.kv_bytes) == (0, 0)


@pytest.mark.parametrize("kind", list(CONFIGS))
def test_memory_is_what_a_plan_foretells(kind: str) -> None:
    model = random_model(kind)
    per_token = kv_bytes_per_token(model.config.to_dict(), element_bytes=4)
    engine = make_engine(model)
    prefixes = [PROMPTS[0] * 9, PROMPTS[1] * 5]
    for _ in range(3):
        for step in ([0], [0, 1]):  # Alone a row lies elsewhere than in a batch.
            requests = [request(prefixes[i], str(i), max_new_tokens=13) for i in step]
            for i, one in zip(step, engine.generate(requests), strict=True):
                prefixes[i] = [*prefixes[i], *one.token_ids]
        held = [len(prefix) - 1 for prefix in prefixes]  # The last token is computed when needed.
        foretold = per_token * sum(map(row_capacity, held))
        assert foretold <= engine.kv_bytes <= foretold + 2 * per_token * BLOCK_TOKENS


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_models_write(dtype: torch.dtype) -> None:
    model = random_model().to(dtype)
    results = make_engine(model).generate([request(p, str(i)) for i, p in enumerate(PROMPTS[:3])])
    assert [len(r.token_ids) for r in results] == [10, 10, 10]


def test_an_empty_batch_is_no_work() -> None:
    none: list[Continuation] = []
    assert make_engine(random_model()).generate([]) == none
