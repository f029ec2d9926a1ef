"""Servers that fail, are other than they should be, or can do less; and keys that nobody sees."""

from __future__ import annotations

import datetime as dt
import logging
import time
import traceback
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from langgraph_switch import SwitchConfig, SwitchLLM
from langgraph_switch.engine_specs import OpenAIEngineSpec
from langgraph_switch.engines.base import BatchError, Continuation, LabelRequest
from langgraph_switch.engines.openai_engine import OpenAIEngine, make_openai_engine
from langgraph_switch.errors import ConfigError, EngineError
from tests.remote.remote_engines import client, local_tokenizer, request, served
from tests.remote.stand_in_server import ALL_ABILITIES, Fault, StandInServer
from tests.tiny_models import (
    byte_tokenizer,
    greedy,
    make_engine,
    merging_tokenizer,
    random_model,
    switch_config,
)

pytestmark = pytest.mark.enable_socket
KEY = "sk-secret-0123456789"
PROMPT = [1, 2, 3, 4, 5]


def nothing(*_: Any) -> None:
    """Listen, so that the answer is streamed."""


@pytest.mark.parametrize("streams", [True, False])
@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_what_may_pass_is_retryable_and_is_not_retried_here(status: int, streams: bool) -> None:
    with served(random_model()) as (server, engine):
        engine.generate([request(PROMPT)])
        server.requests.clear()
        server.faults.append(Fault(status=status, headers={"Retry-After": "7"}))
        with pytest.raises(EngineError, match=f"status {status}: injected") as caught:
            engine.generate([request(PROMPT)], nothing if streams else None)
        assert caught.value.retryable
        assert caught.value.retry_after_s == 7
        assert server.faults[0].times == 0
        assert server.requests == []  # The fault came before; nobody asked again.
        assert engine.generate([request(PROMPT)])


def test_a_date_in_retry_after_is_understood() -> None:
    with served(random_model()) as (server, engine):
        engine.generate([request(PROMPT)])
        until = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=60)
        header = {"Retry-After": format_datetime(until, usegmt=True)}
        server.faults.append(Fault(status=503, headers=header))
        with pytest.raises(EngineError) as caught:
            engine.generate([request(PROMPT)])
        assert 50 < (caught.value.retry_after_s or 0) <= 60


@pytest.mark.parametrize("status", [400, 403, 413, 422])
def test_what_will_not_pass_is_not_retryable(status: int) -> None:
    with served(random_model()) as (server, engine):
        engine.generate([request(PROMPT)])
        server.faults.append(Fault(status=status))
        with pytest.raises(EngineError) as caught:
            engine.generate([request(PROMPT)])
        assert not caught.value.retryable


@pytest.mark.parametrize("cut_after", [0, 1, 100, 700, 1500])
def test_a_cut_answer_is_retryable_and_its_beginning_was_told(cut_after: int) -> None:
    model = random_model()
    seen: list[int] = []
    with served(model) as (server, engine):
        engine.generate([request(PROMPT)])
        server.faults.append(Fault(cut_after=cut_after))
        with pytest.raises(EngineError) as caught:
            engine.generate([request(PROMPT)], lambda _, token: seen.append(token.token_id))
        assert caught.value.retryable
        assert seen == greedy(model, PROMPT, 10)[: len(seen)]
        assert (len(seen) > 0) == (cut_after >= 700)
        if cut_after <= 100:  # A whole answer is shorter than a streamed one.
            server.faults.append(Fault(cut_after=cut_after))
            with pytest.raises(EngineError):
                engine.generate([request(PROMPT)])


def test_a_silent_server_is_given_up() -> None:
    with served(random_model()) as (server, _):
        engine = client(server, timeout_s=0.2)
        engine.generate([request(PROMPT)])
        server.faults.append(Fault(hang_s=1))
        started = time.perf_counter()
        with pytest.raises(EngineError, match="did not answer in time") as caught:
            engine.generate([request(PROMPT)])
        assert caught.value.retryable
        assert time.perf_counter() - started < 0.8


def test_a_request_may_have_less_time_than_its_engine() -> None:
    with served(random_model(), token_delay_s=0.05) as (_, engine):
        one = request(PROMPT, max_new_tokens=100, timeout_s=0.3)
        with pytest.raises(EngineError, match=r"longer than 0.3 s for a segment") as caught:
            engine.generate([one], nothing)
        assert caught.value.retryable


def test_one_failure_of_a_batch_does_not_lose_the_rest() -> None:
    model = random_model()
    with served(model) as (server, engine):
        engine.generate([request(PROMPT)])
        server.faults.append(Fault(status=500))
        with pytest.raises(BatchError) as caught:
            engine.generate([request([i, 2], str(i)) for i in range(4)])
        whole = {i: one for i, one in enumerate(caught.value.outcomes) if _is_whole(one)}
        assert len(whole) == 3
        assert caught.value.retryable
        for i, one in whole.items():
            assert isinstance(one, Continuation)
            assert list(one.token_ids) == greedy(model, [i, 2], 10)


def _is_whole(outcome: Continuation | EngineError) -> bool:
    return isinstance(outcome, Continuation)


def test_a_killed_server_is_retryable_and_works_again_when_it_is_back() -> None:
    model = random_model()
    with served(model) as (server, engine):
        engine.generate([request(PROMPT)])
        server.kill()
        with pytest.raises(EngineError, match="start the server") as caught:
            engine.generate([request(PROMPT)])
        assert caught.value.retryable
        server.restart()
        assert list(engine.generate([request(PROMPT)])[0].token_ids) == greedy(model, PROMPT, 10)


def test_a_server_that_is_down_at_first_costs_no_certainty() -> None:
    model = random_model()
    with served(model) as (server, engine):
        server.kill()
        assert engine.max_context_tokens == 2048  # As the model's files say.
        with pytest.raises(EngineError):
            engine.generate([request(PROMPT)])
        server.restart()
        assert list(engine.generate([request(PROMPT)])[0].token_ids) == greedy(model, PROMPT, 10)


def test_a_model_that_is_not_served_is_refused_with_those_that_are() -> None:
    with served(random_model()) as (server, _):
        with pytest.raises(ConfigError, match=r"no model 'big'; it serves 'tiny'"):
            client(server, "big").generate([request(PROMPT)])
        wrong = client(server, base_url=f"{server.url}/v2")
        with pytest.raises(ConfigError, match=r"(?s)does not answer.*ends in /v1"):
            wrong.generate([request(PROMPT)])


def test_a_web_page_is_no_server() -> None:
    with served(random_model()) as (server, engine):
        server.faults += [Fault("/models", 200, body="<html>"), Fault(status=200, body="<html>")]
        with pytest.raises(ConfigError, match="something else than completions"):
            engine.generate([request(PROMPT)])


@pytest.mark.parametrize("missing", [(), ("tokenize",), ("tokenize", "return_token_ids")])
def test_another_model_behind_the_name_is_refused(missing: tuple[str, ...]) -> None:
    other = make_engine(random_model(), merging_tokenizer())
    abilities = ALL_ABILITIES - set(missing)
    with StandInServer({"tiny": other}, abilities=abilities) as server:
        ours = local_tokenizer(make_engine(random_model(), byte_tokenizer()))
        engine = OpenAIEngine(OpenAIEngineSpec(base_url=server.base_url, model="tiny"), ours)
        with pytest.raises(ConfigError, match=r"another model as 'tiny'.*tokenizers differ"):
            engine.generate([request(PROMPT)])
        with pytest.raises(ConfigError):
            _ = engine.max_context_tokens


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        (("token_prompts",), "sent as text"),
        (("return_token_ids",), "tokenised again"),
        (("extras",), "refuses vLLM's fields"),
        (("token_prompts", "return_token_ids", "extras", "tokenize"), "sent as text"),
    ],
)
def test_a_lesser_server_is_used_as_far_as_it_goes_and_it_is_said_once(
    missing: tuple[str, ...], said: str
) -> None:
    model = random_model(vocab_size=256)
    tokenizer = byte_tokenizer()
    letters = [i for i in range(256) if tokenizer.decode([i]).isalpha()]
    masked = tuple(sorted(set(range(256)) - set(letters)))
    prompt = tokenizer("hello there")["input_ids"]
    one = request(prompt, max_new_tokens=12, masked_token_ids=masked)
    [expected] = make_engine(model).generate([one])
    stop = expected.text[3:5]
    with served(model, abilities=ALL_ABILITIES - set(missing)) as (_, engine):
        with pytest.warns(UserWarning, match=said) as caught:
            [found] = engine.generate([one])
        for listener in (nothing, None):
            [again] = engine.generate([one], listener)
            stopped = request(prompt, max_new_tokens=12, masked_token_ids=masked, stop=(stop,))
            [cut] = engine.generate([stopped], listener)
            assert again.text == found.text == expected.text  # Letters are tokens by themselves.
            assert cut.text == expected.text[: expected.text.index(stop) + 2]
            assert cut.finish_reason == "stop"
        ours = [w for w in caught if "Segments may be" in str(w.message)]
        assert len(ours) == 1


def with_key(monkeypatch: pytest.MonkeyPatch, server: StandInServer) -> OpenAIEngine:
    monkeypatch.setenv("SOME_KEY", KEY)
    return client(server, api_key_env="SOME_KEY")


def test_a_key_opens_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    with served(random_model(), api_key=KEY) as (server, _):
        assert with_key(monkeypatch, server).generate([request(PROMPT)])
        with pytest.raises(EngineError, match="status 401") as caught:
            client(server).generate([request(PROMPT)])
        assert not caught.value.retryable
        assert "api_key_env" in caught.value.hint


def test_no_other_key_of_the_environment_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with served(random_model(seed=1)) as (server, _):
        client(server, max_in_flight=17).generate([request(PROMPT)])
        assert {KEY in str(one) for one in server.authorizations} == {False}


def test_a_missing_key_is_an_error_of_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOME_KEY", raising=False)
    spec = OpenAIEngineSpec(base_url="http://localhost:1/v1", model="x", api_key_env="SOME_KEY")
    with pytest.raises(ConfigError, match=r"(?s)'SOME_KEY' is not set.*export SOME_KEY="):
        make_openai_engine(spec, "nowhere")


def test_a_key_is_never_shown(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("SOME_KEY", KEY)
    model = random_model(vocab_size=256)
    with served(model, api_key="another") as (server, _):  # Whose refusal repeats the key.
        engine = {"kind": "openai", "base_url": server.base_url, "model": "tiny"}
        engine["api_key_env"] = "SOME_KEY"
        config = switch_config(("a", "aligned")).to_dict()
        for candidate in config["candidates"]:
            candidate["engine"] = engine
        read = SwitchConfig.from_dict(config)
        saved = read.save(tmp_path).read_text()
        ours = client(server, api_key_env="SOME_KEY")
        llm = SwitchLLM(config=read, engines={"a": ours, "aligned": ours})
        assert "SOME_KEY" in saved
        texts = [saved, repr(llm), repr(ours), str(llm._identifying_params), repr(ours._spec)]
        with pytest.raises(Exception, match="401") as caught:
            llm.invoke("hello")
        texts += traceback.format_exception(caught.value)
        texts += [record.getMessage() for record in caplog.records]
        texts += [str(vars(record)) for record in caplog.records]
        assert any(KEY in str(one) for one in server.authorizations)
    assert not [text for text in texts if KEY in text]


@pytest.mark.parametrize(
    "wrong",
    [
        {"base_url": f"http://user:{KEY}@host/v1"},
        {"base_url": f"http://host/v1?key={KEY}"},
        {"base_url": "host:8000/v1"},
        {"api_key_env": KEY},
        {"api_key": KEY},
        {"kind": KEY},
    ],
)
def test_a_key_in_the_wrong_place_is_refused_and_not_repeated(wrong: dict[str, Any]) -> None:
    engine = {"kind": "openai", "base_url": "http://host/v1", "model": "m"} | wrong
    with pytest.raises(ConfigError) as caught:
        SwitchConfig.from_dict({"candidates": [{"name": "a", "engine": engine}, {"name": "b"}]})
    assert KEY not in "".join(traceback.format_exception(caught.value))


def test_labels_fail_like_texts() -> None:
    with served(random_model()) as (server, engine):
        one = LabelRequest(row="x", prefix=PROMPT, labels=((1,), (2,)))
        engine.label_logprobs([one])
        server.faults.append(Fault(status=503))
        with pytest.raises(EngineError) as caught:
            engine.label_logprobs([one])
        assert caught.value.retryable
        server.kill()
        with pytest.raises(EngineError):
            engine.label_logprobs([one])
