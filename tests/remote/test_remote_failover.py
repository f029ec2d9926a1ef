"""Servers die in the middle of answers, over real HTTP: the answers go on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from langgraph_switch import SwitchLLM, Trace
from langgraph_switch.config import SwitchConfig
from langgraph_switch.errors import GenerationError
from tests.remote.remote_engines import client
from tests.remote.stand_in_server import Fault, StandInServer
from tests.tiny_models import byte_tokenizer, make_engine, random_model, switch_config

pytestmark = pytest.mark.enable_socket
KEY = "sk-verysecret0123456789"


def config(**fields: Any) -> SwitchConfig:
    defaults: dict[str, Any] = {
        "switcher": {"kind": "fixed", "order": ["a", "b"]},
        "anchor": {"first": False},
        "max_tokens": 60,
        "segment": {"max_tokens": 12},
        "failover": {"initial_wait_s": 0.02, "max_wait_s": 1},
    }
    return switch_config("ab", **(defaults | fields))


@pytest.fixture
def servers() -> Iterator[list[StandInServer]]:
    """Two servers that have the same model, so that any hand-over gives the same greedy text."""
    model = random_model(seed=3)
    made = [StandInServer({"tiny": make_engine(model)}, token_delay_s=0.005) for _ in range(2)]
    yield made
    for server in made:
        server.close()


@pytest.fixture
def expected() -> str:
    engine = make_engine(random_model(seed=3))
    return SwitchLLM(config=config(), engines={"a": engine, "b": engine}).invoke("hello")


def switch(servers: list[StandInServer], given: SwitchConfig | None = None) -> SwitchLLM:
    engines = {name: client(server) for name, server in zip("ab", servers, strict=True)}
    return SwitchLLM(config=given or config(), engines=engines)


def served_candidates(servers: list[StandInServer], tmp_path: Path) -> list[dict[str, Any]]:
    """Return candidates a and b as a configuration describes them, each on its server."""
    random_model(seed=3).save_pretrained(tmp_path / "tiny")
    byte_tokenizer().save_pretrained(tmp_path / "tiny")
    return [
        {
            "name": name,
            "model": str(tmp_path / "tiny"),
            "engine": {"kind": "openai", "base_url": server.base_url, "model": "tiny"},
            "prompt": {"kind": "plain", "plain_template": "{query}"},
        }
        for name, server in zip("ab", servers, strict=True)
    ]


def streamed(
    llm: SwitchLLM, on_text: Any = lambda _speaker, _text: None
) -> tuple[str, list[tuple[str, str, str]]]:
    """Stream an answer; return its text, and speaker, reason and end of each segment."""
    text, trace = "", None
    for event in llm._runs.events("hello"):
        if event["type"] == "text":
            text += event["text"]
            on_text(event["speaker"], text)
        elif event["type"] == "end":
            trace = Trace.from_json(event["data"])
    assert trace is not None
    assert trace.text == text
    return text, [(one.speaker, one.decided_by, one.finish_reason) for one in trace.segments]


def test_a_server_killed_during_a_stream_costs_a_hand_over(
    servers: list[StandInServer], expected: str
) -> None:
    llm = switch(servers)
    killed = threading.Event()

    def kill(speaker: str, text: str) -> None:
        if speaker == "a" and len(text) > 4 and not killed.is_set():
            killed.set()
            servers[0].kill()

    text, parts = streamed(llm, kill)
    assert killed.is_set()
    assert text == expected
    assert ("a", "fixed", "failed") in parts
    assert parts[parts.index(("a", "fixed", "failed")) + 1][:2] == ("b", "failover")
    num_requests = len(servers[1].requests)
    assert streamed(llm)[0] == expected
    assert len(servers[1].requests) > num_requests
    assert {speaker for speaker, _, _ in streamed(llm)[1]} == {"b"}, "on cooldown for all runs"
    servers[0].restart()
    llm.switch.health.recover("a")
    assert "a" in {speaker for speaker, _, _ in streamed(llm)[1]}


@pytest.mark.parametrize("cut_after", [0, 60, 400, 900])
def test_an_answer_that_is_cut_anywhere_goes_on_where_it_was(
    servers: list[StandInServer], expected: str, cut_after: int
) -> None:
    servers[0].faults.append(Fault(cut_after=cut_after, times=2))
    text, parts = streamed(switch(servers))
    assert text == expected
    assert "failed" not in {reason for _, _, reason in parts}


def test_a_busy_server_is_given_the_time_it_asks_for(
    servers: list[StandInServer], expected: str
) -> None:
    servers[0].faults.append(Fault(status=429, headers={"Retry-After": "0.3"}, times=2))
    started = time.monotonic()
    text, parts = streamed(switch(servers))
    assert text == expected
    assert time.monotonic() - started >= 0.6
    assert "failover" not in {by for _, by, _ in parts}


def test_a_silent_server_is_left_at_the_candidates_timeout(
    servers: list[StandInServer], expected: str
) -> None:
    given = config()
    impatient = given.candidate("a").model_copy(update={"timeout_s": 0.5})
    given = given.with_changes(candidates=(impatient, given.candidate("b")))
    llm = switch(servers, given)
    llm.invoke("hello")  # The server has been asked what it can.
    servers[0].faults.append(Fault(hang_s=20, times=99))
    started = time.monotonic()
    text, parts = streamed(llm)
    assert text == expected
    assert parts[:2] == [("a", "fixed", "failed"), ("b", "failover", "length")]
    assert time.monotonic() - started < 5


def test_a_server_that_is_silent_from_the_first_is_left_in_time(
    servers: list[StandInServer], expected: str, tmp_path: Path
) -> None:
    servers[0].faults.append(Fault(path="/", hang_s=20, times=99))
    silent, well = served_candidates(servers, tmp_path)
    llm = SwitchLLM(config=config(candidates=[silent | {"timeout_s": 0.5}, well]))
    started = time.monotonic()
    text, parts = streamed(llm)
    assert text == expected
    assert parts[:2] == [("a", "fixed", "failed"), ("b", "failover", "length")]
    assert time.monotonic() - started < 5


def test_rows_of_a_batch_fail_alone(servers: list[StandInServer]) -> None:
    queries: list[Any] = [f"q{i}" for i in range(8)]
    expected = switch(servers).batch(queries)
    llm = switch(servers, config(failover={"max_attempts": 1}))
    llm.invoke("hello")  # The server has been asked what it can.
    servers[0].faults.append(Fault(cut_after=300, times=2))
    result = llm.generate(queries)
    traces = [(row[0].generation_info or {})["trace"]["segments"] for row in result.generations]
    assert [row[0].text for row in result.generations] == expected
    assert sum("failover" in {one["decided_by"] for one in trace} for trace in traces) == 2


def test_with_every_server_down_the_error_comes_soon_and_carries_the_text(
    servers: list[StandInServer], expected: str
) -> None:
    shown: list[str] = []
    killed: list[float] = []

    def take(pieces: Iterator[str]) -> None:
        for piece in pieces:
            shown.append(piece)
            if len("".join(shown)) >= 20 and not killed:
                killed.append(time.monotonic())
                for server in servers:
                    server.kill()

    with pytest.raises(GenerationError, match="Every candidate has failed") as caught:
        take(switch(servers).stream("hello"))
    assert time.monotonic() - killed[0] < 5
    [trace] = caught.value.traces
    assert trace.text == "".join(shown)
    assert expected.startswith(trace.text)
    assert len(trace.text) >= 20


def test_replicas_by_configuration_keep_a_response_on_one_server_and_survive_the_other(
    servers: list[StandInServer], expected: str, tmp_path: Path
) -> None:
    candidates = served_candidates(servers, tmp_path)
    urls = [server.base_url for server in servers]
    both = candidates[0]["engine"] | {"replica_urls": urls[1:]}
    llm = SwitchLLM(config=config(candidates=[one | {"engine": both} for one in candidates]))
    assert streamed(llm)[0] == expected
    for _ in range(4):
        before = [len(server.requests) for server in servers]
        [trace] = llm._runs.finish(["hello"])
        served = [len(s.requests) - n for s, n in zip(servers, before, strict=True)]
        by_speaker = {one.speaker for one in trace.segments}
        assert by_speaker == {"a", "b"}
        assert sum(served) == len(trace.segments)
    servers[0].kill()
    for _ in range(3):
        text, parts = streamed(llm)
        assert text == expected
        assert "failover" not in {by for _, by, _ in parts}


def test_keys_are_nowhere(
    servers: list[StandInServer],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("A_KEY", KEY)
    body = f'{{"error": {{"message": "Incorrect key {KEY}"}}}}'
    for server in servers:
        server.faults.append(Fault(status=401, body=body, times=99))
    engines = {n: client(s, api_key_env="A_KEY") for n, s in zip("ab", servers, strict=True)}
    llm = SwitchLLM(config=config(), engines=engines)
    with pytest.raises(GenerationError, match="401") as caught:
        llm.invoke("hello")
    assert servers[0].authorizations[-1] == f"Bearer {KEY}"
    shown = [caplog.text, repr(llm), str(llm._identifying_params), str(llm.config.to_dict())]
    error: BaseException | None = caught.value
    while error is not None:
        shown.append(repr(error))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    assert "401" in "".join(shown)
    assert KEY not in "".join(shown)
