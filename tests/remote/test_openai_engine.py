"""What holds for the in-process engine holds over a server: the same tests, over real HTTP."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest

from langgraph_switch.config import Sampling
from langgraph_switch.engines.base import Engine, LabelRequest, NewToken
from langgraph_switch.errors import ConfigError, ContextLengthError, InputError
from tests.remote.remote_engines import client, request, served
from tests.remote.stand_in_server import StandInServer
from tests.tiny_models import CONFIGS, byte_tokenizer, greedy, make_engine, random_model

pytestmark = pytest.mark.enable_socket

PROMPTS = [[1, 2, 3, 4, 5], [7] * 11, [9, 8], [65] * 30, [4, 4, 2], [200], [12, 13], [99] * 17]


def grow(engine: Engine, prompts: Sequence[Sequence[int]], lengths: Sequence[int]) -> list[Any]:
    texts = [list(prompt) for prompt in prompts]
    for number, length in enumerate(lengths):
        order = sorted(range(len(texts)), key=lambda i: (i * 7 + number) % len(texts))
        requests = [request(texts[i], str(i), max_new_tokens=length) for i in order]
        for i, continuation in zip(order, engine.generate(requests), strict=True):
            texts[i].extend(continuation.token_ids)
    return [text[len(prompt) :] for text, prompt in zip(texts, prompts, strict=True)]


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("segment", [7, 50])
def test_segments_of_any_length_equal_plain_generate(kind: str, segment: int) -> None:
    model = random_model(kind)
    lengths = [min(segment, 50 - done) for done in range(0, 50, segment)]
    expected = [greedy(model, prompt, 50) for prompt in PROMPTS[:3]]
    with served(model) as (_, engine):
        assert grow(engine, PROMPTS[:3], lengths) == expected


def test_the_servers_memory_changes_nothing_and_is_told() -> None:
    model = random_model()
    with served(model) as (_, engine):
        first = engine.generate([request(PROMPTS[3])])[0]
        longer = [*PROMPTS[3], *first.token_ids, 5, 6]
        second = engine.generate([request(longer)])[0]
        assert (first.cached_tokens, first.prefill_tokens) == (0, 30)
        assert second.cached_tokens == 30 + 9
        assert second.cached_tokens + second.prefill_tokens == len(longer)
        assert list(second.token_ids) == greedy(model, longer, 10)
        assert engine.cache_use.cached_tokens == 39
        assert engine.cache_use.hit_rate == 39 / (30 + len(longer))
    with served(model, abilities=StandInServer({}).abilities - {"cached_tokens"}) as (_, engine):
        engine.generate([request(PROMPTS[3])])
        assert engine.cache_use.prompt_tokens == 0  # Not told: nothing is claimed.


def test_a_streamed_answer_is_the_same_and_comes_token_by_token() -> None:
    model = random_model()
    expected = greedy(model, PROMPTS[0], 20)
    seen: list[tuple[int, NewToken, str]] = []

    def listen(index: int, token: NewToken) -> None:
        seen.append((index, token, threading.current_thread().name))

    with served(model, token_delay_s=0.01) as (server, engine):
        result = engine.generate([request(PROMPTS[0], max_new_tokens=20)], listen)[0]
        assert list(result.token_ids) == [token.token_id for _, token, _ in seen] == expected
        assert "".join(token.text for _, token, _ in seen) == result.text
        assert {name for _, _, name in seen} == {threading.current_thread().name}
        assert server.requests[-1]["stream"] is True


def test_an_exception_in_a_listener_ends_the_request() -> None:
    model = random_model()
    with served(model, token_delay_s=0.01) as (_, engine):

        def listen(_: int, token: NewToken) -> None:
            raise KeyboardInterrupt(token.text)

        with pytest.raises(KeyboardInterrupt):
            engine.generate([request(PROMPTS[0]), request(PROMPTS[1], "b")], listen)
        assert grow(engine, PROMPTS[:1], [10]) == [greedy(model, PROMPTS[0], 10)]


@pytest.mark.parametrize("streams", [True, False])
def test_an_eos_ends_a_row_and_is_no_part_of_it(streams: bool) -> None:
    model = random_model()
    expected = greedy(model, PROMPTS[0], 20)
    eos = expected[6]
    one = request(PROMPTS[0], max_new_tokens=20, eos_token_ids=(eos,))
    with served(model) as (_, engine):
        result = engine.generate([one], (lambda *_: None) if streams else None)[0]
    assert list(result.token_ids) == expected[: expected.index(eos)]
    assert result.finish_reason == "eos"


def test_masked_tokens_never_appear() -> None:
    model = random_model()
    masked = tuple(set(greedy(model, PROMPTS[0], 20)))
    with served(model) as (_, engine):
        for sampling in (Sampling(temperature=0), Sampling(temperature=2, top_p=1)):
            one = request(PROMPTS[0], max_new_tokens=40, masked_token_ids=masked, sampling=sampling)
            assert not set(engine.generate([one])[0].token_ids) & set(masked)


def test_a_seed_gives_the_same_tokens_in_any_batch_and_in_process() -> None:
    sampling = Sampling(temperature=1.3, top_p=0.9, top_k=50)
    requests = [
        request(p, str(i), seed=i + 2**62, sampling=sampling, max_new_tokens=25)
        for i, p in enumerate(PROMPTS)
    ]
    local = [r.token_ids for r in make_engine(random_model()).generate(requests)]
    with served(random_model()) as (_, engine):
        together = engine.generate(requests)
        streamed = engine.generate(requests, lambda *_: None)
        alone = [engine.generate([one])[0] for one in requests]
    for run in (together, streamed, alone):
        assert [r.token_ids for r in run] == local
    assert len(set(local)) == len(PROMPTS)


@pytest.mark.parametrize("segment", [1, 3, 50])
@pytest.mark.parametrize("start", [0, 9])
@pytest.mark.parametrize("streams", [True, False])
def test_a_stop_string_is_found_across_tokens_and_segments(
    segment: int, start: int, streams: bool
) -> None:
    model, tokenizer = random_model(), byte_tokenizer()
    letters = [i for i in range(256) if tokenizer.decode([i]).isalpha()]
    masked = tuple(sorted(set(range(300)) - set(letters)))
    fields: dict[str, Any] = {"response_start": len(PROMPTS[0]), "masked_token_ids": masked}
    whole = make_engine(model).generate([request(PROMPTS[0], max_new_tokens=40, **fields)])[0]
    stop = whole.text[start : start + 4]
    prefix, written = list(PROMPTS[0]), ""
    with served(model) as (_, engine):
        for _ in range(40):
            one = request(prefix, max_new_tokens=segment, stop=("no such text", stop), **fields)
            result = engine.generate([one], (lambda *_: None) if streams else None)[0]
            prefix.extend(result.token_ids)
            written += result.text
            if result.finish_reason == "stop":
                break
    assert written == whole.text[: whole.text.index(stop) + 4]


@pytest.mark.parametrize("fields", [{"end_at": "sentence"}, {"extra_tokens": 8}])
def test_boundaries_and_whole_characters_are_kept_as_in_process(fields: dict[str, Any]) -> None:
    model = random_model(vocab_size=256)
    requests = [
        request(p, str(i), max_new_tokens=n, **fields)
        for i, p in enumerate(PROMPTS)
        for n in (1, 2, 5, 40)
    ]
    expected = make_engine(model).generate(requests)
    with served(model) as (_, engine):
        for found, one in zip(engine.generate(requests), expected, strict=True):
            assert (found.token_ids, found.text, found.pending_text, found.finish_reason) == (
                one.token_ids,
                one.text,
                one.pending_text,
                one.finish_reason,
            )
    assert {one.finish_reason for one in expected} >= {"length"}


def test_pieces_of_text_add_up_to_decoding_all_tokens() -> None:
    model = random_model(vocab_size=256)
    prefix, pieces, pending = list(PROMPTS[0]), "", ""
    with served(model) as (_, engine):
        for length in (1, 2, 3, 5, 1, 1, 7, 20):
            result = engine.generate(
                [request(prefix, response_start=len(PROMPTS[0]), max_new_tokens=length)]
            )[0]
            prefix.extend(result.token_ids)
            pieces += result.text
            pending = result.pending_text
    assert pieces + pending == byte_tokenizer().decode(prefix[len(PROMPTS[0]) :])


LABELS = [((5,), (6,), (9,)), ((5,), (5, 6), (5, 6, 7), (5, 8), (9,), (3, 3))]


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize(
    ("missing", "num_requests"),
    [((), (1, 4)), (("logprob_token_ids",), (3, 7)), (("return_token_ids",), (1, 4))],
)
def test_labels_have_the_probabilities_that_they_have_in_process(
    labels: tuple[tuple[int, ...], ...], missing: tuple[str, ...], num_requests: tuple[int, int]
) -> None:
    model = random_model()
    requests = [LabelRequest(row=str(i), prefix=p, labels=labels) for i, p in enumerate(PROMPTS)]
    expected = make_engine(model).label_logprobs(requests)
    abilities = StandInServer({}).abilities - set(missing)
    with served(model, abilities=abilities) as (server, engine):
        found = engine.label_logprobs(requests)
        num_probes = len(server.requests)
        engine.label_logprobs(requests[:1])
        assert len(server.requests) - num_probes == num_requests[len(labels) > 3]
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, abs=1e-4)


def test_a_server_that_tells_only_the_most_probable_tokens_is_asked_for_those() -> None:
    model = random_model()
    [everything] = make_engine(model).label_logprobs(
        [LabelRequest(row="x", prefix=PROMPTS[0], labels=tuple((i,) for i in range(300)))]
    )
    best = sorted(range(300), key=lambda i: -everything[i])
    labels = ((best[3],), (best[200],), (best[0],))
    abilities = StandInServer({}).abilities - {"logprob_token_ids", "allowed_token_ids"}
    with served(model, abilities=abilities) as (_, engine):
        with pytest.warns(UserWarning, match="most probable tokens"):
            [found] = engine.label_logprobs(
                [LabelRequest(row="x", prefix=PROMPTS[0], labels=labels)]
            )
        assert found == pytest.approx((everything[best[3]], float("-inf"), everything[best[0]]))


def test_labels_with_the_same_tokens_are_refused() -> None:
    with served(random_model()) as (_, engine), pytest.raises(ConfigError, match="same tokens"):
        engine.label_logprobs([LabelRequest(row="x", prefix=[1], labels=((5,), (5,)))])


def test_a_server_is_asked_no_more_than_it_may_be() -> None:
    model = random_model()
    prompts = [[i, i + 1, i + 2] for i in range(40)]
    expected = [greedy(model, p, 5) for p in prompts]
    with StandInServer({"tiny": make_engine(model)}, token_delay_s=0.005) as server:
        engines = [client(server, max_in_flight=3) for _ in range(2)]
        found: dict[int, list[Any]] = {}

        def work(half: int) -> None:
            some = [request(p, str(i), max_new_tokens=5) for i, p in enumerate(prompts)][half::2]
            found[half] = [list(r.token_ids) for r in engines[half].generate(some, print_nothing)]

        threads = [threading.Thread(target=work, args=(half,)) for half in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [found[0], found[1]] == [expected[0::2], expected[1::2]]
        assert server.max_in_flight == 3  # Both engines together.
        assert server.num_connections <= 4  # Connections are used again.


def print_nothing(_: int, __: NewToken) -> None:
    """Listen, so that the answer is streamed."""


def test_too_long_a_prefix_is_refused_with_the_servers_figures() -> None:
    with served(random_model(), max_model_len=100) as (server, engine):
        assert engine.max_context_tokens == 100
        with pytest.raises(ContextLengthError) as caught:
            engine.generate([request([1] * 98)])
        assert (caught.value.num_tokens, caught.value.max_tokens) == (108, 100)
        assert "--max-model-len" in str(caught.value)
        with pytest.raises(ContextLengthError):
            engine.label_logprobs([LabelRequest(row="x", prefix=[1] * 100, labels=((1,),))])
        # Room for extra tokens is what the server has left.
        full = engine.generate([request([1] * 88, max_new_tokens=12, extra_tokens=8)])[0]
        assert len(full.token_ids) <= 12
        assert server.requests[-1]["max_tokens"] == 12


def test_a_grammar_is_refused() -> None:
    with served(random_model()) as (_, engine), pytest.raises(InputError, match="grammar"):
        engine.generate([request([1], grammar='start: "x"')])


def test_an_empty_batch_is_no_work() -> None:
    with served(random_model()) as (server, engine):
        assert engine.generate([]) == []
        assert engine.label_logprobs([]) == []
        assert server.requests == []
