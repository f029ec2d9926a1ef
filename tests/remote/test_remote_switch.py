"""A whole switch over servers says what it says in this process."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from langgraph_switch import SwitchConfig, SwitchLLM, Trace
from langgraph_switch.config import ModelRef
from langgraph_switch.engines.base import Engine
from langgraph_switch.engines.openai_engine import OpenAIEngine
from langgraph_switch.engines.pool import ModelPool
from langgraph_switch.errors import ConfigError
from langgraph_switch.families import embedded_config
from langgraph_switch.hub.plan import plan_memory
from tests.remote.remote_engines import client
from tests.remote.stand_in_server import Fault, StandInServer
from tests.tiny_models import byte_tokenizer, greedy, make_engine, random_model, switch_config

pytestmark = pytest.mark.enable_socket
QUESTIONS = [
    "How many legs do 3 spiders and 2 cats have in total?",
    "How many legs does a spider have?",
    "What is 12 + 7?",
]


@pytest.fixture(scope="module")
def local() -> SwitchLLM:
    return SwitchLLM.embedded()


@pytest.fixture(scope="module")
def server(local: SwitchLLM) -> Iterator[StandInServer]:
    """Serve the embedded family, its switcher included."""
    engines: dict[str, Engine] = {n: one.engine for n, one in local.switch.candidates.items()}
    family = embedded_config().with_absolute_models()
    ref = ModelRef(model=family.resolve_model(str(family.switcher.model)))  # type: ignore[union-attr]
    engines["switcher"] = ModelPool(kv_cache_bytes=2**30).engine(ref, name="switcher")
    with StandInServer(engines) as found:
        yield found


def over(server: StandInServer, names: tuple[str, ...], **changes: Any) -> SwitchConfig:
    """Return the embedded family's configuration, some of its models on the server."""
    config = embedded_config().with_absolute_models().to_dict() | changes
    for spec in (*config["candidates"], config["switcher"]):
        name = spec.get("name", "switcher")
        if name in names:
            spec["engine"] = {"kind": "openai", "base_url": server.base_url, "model": name}
    return SwitchConfig.from_dict(config)


EVERYBODY = ("pretrained", "finetuned", "aligned", "switcher")


def written(llm: SwitchLLM, **options: Any) -> list[Any]:
    result = llm.generate(QUESTIONS, **options)
    found = [Trace.from_json((one[0].generation_info or {})["trace"]) for one in result.generations]
    return [
        (t.text, [(s.speaker, s.token_ids, s.decided_by, s.finish_reason) for s in t.segments])
        for t in found
    ]


@pytest.mark.parametrize("names", [EVERYBODY, ("finetuned",), ("aligned", "switcher")])
def test_it_writes_the_same_wherever_its_models_are(
    local: SwitchLLM, server: StandInServer, names: tuple[str, ...]
) -> None:
    remote = SwitchLLM(config=over(server, names))
    assert written(remote) == written(local)
    sampled = {"seed": 11, "temperature": 0.9}
    assert written(remote, **sampled) == written(local, **sampled)
    on_server = {
        n for n, c in remote.switch.candidates.items() if isinstance(c.engine, OpenAIEngine)
    }
    assert on_server == set(names) - {"switcher"}


async def test_streams_and_awaited_calls_say_the_same(
    local: SwitchLLM, server: StandInServer
) -> None:
    remote = SwitchLLM(config=over(server, EVERYBODY))
    expected = [local.invoke(question) for question in QUESTIONS]
    assert ["".join(remote.stream(question)) for question in QUESTIONS] == expected
    found = await asyncio.gather(*(remote.ainvoke(question) for question in QUESTIONS * 3))
    assert found == expected * 3
    pieces = [piece async for piece in remote.astream(QUESTIONS[0])]
    assert "".join(pieces) == expected[0]
    assert len(pieces) > 2


def test_the_server_remembers_prefixes(server: StandInServer) -> None:
    remote = SwitchLLM(config=over(server, EVERYBODY))
    remote.batch(QUESTIONS)
    aligned = remote.switch.candidates["aligned"].engine
    assert isinstance(aligned, OpenAIEngine)
    assert aligned.cache_use.hit_rate > 0.3


def test_a_switcher_may_be_a_candidates_own_server(server: StandInServer, local: SwitchLLM) -> None:
    own = {"kind": "lm", "candidate": "aligned"}
    remote = SwitchLLM(config=over(server, EVERYBODY[:3], switcher=own))
    expected = SwitchLLM(config=local.config.with_changes(switcher=own))
    assert written(remote) == written(expected)
    adapted = over(server, EVERYBODY[:3], switcher=own | {"adapter": "some/adapter"})
    with pytest.raises(ConfigError, match=r"(?s)on a server.*--lora-modules"):
        _ = SwitchLLM(config=adapted).switch


def test_one_model_in_turns_with_itself_is_its_plain_greedy_text() -> None:
    model = random_model()
    config = switch_config(("a", "b"), max_tokens=40).to_dict()
    engine = make_engine(model)
    with StandInServer({"a": engine, "b": engine}) as server:
        names = ("a", "b")
        clients = {n: client(server, n) for n in names}
        llm = SwitchLLM(config=SwitchConfig.from_dict(config), engines=clients)
        prompt = byte_tokenizer()("hello")["input_ids"]
        expected = engine.tokenizer.decode(greedy(model, prompt, 40))
        assert llm.invoke("hello") == expected


def test_a_configuration_with_engines_survives_its_file(
    server: StandInServer, tmp_path: Path
) -> None:
    config = over(server, EVERYBODY)
    again = SwitchConfig.load(config.save(tmp_path))
    assert again == config
    assert again.candidates[0].engine is not None


def test_a_candidate_on_a_server_needs_no_model_and_no_memory_here() -> None:
    engine = {"kind": "openai", "base_url": "http://host/v1", "model": "org/some-model"}
    config = SwitchConfig.from_dict(
        {"candidates": [{"name": n, "engine": engine} for n in ("a", "aligned")]}
    )
    assert config.candidates[0].model == "org/some-model"
    assert plan_memory(config).weights == ()


def test_an_error_in_mid_answer_can_be_tried_again(server: StandInServer) -> None:
    changes = {"failover": {"enabled": False}} if "failover" in SwitchConfig.model_fields else {}
    remote = SwitchLLM(config=over(server, EVERYBODY, **changes))
    expected = remote.invoke(QUESTIONS[0])
    server.faults.append(Fault(status=503, when=_second_time()))
    with pytest.raises(Exception, match="503") as caught:
        remote.invoke(QUESTIONS[0])
    assert getattr(caught.value, "retryable", False)
    assert remote.invoke(QUESTIONS[0]) == expected


def _second_time() -> Any:
    calls = iter(range(1000))
    return lambda: next(calls) == 1


def test_without_the_client_the_extra_is_named() -> None:
    program = """
import sys
sys.modules["openai"] = None
from langgraph_switch import SwitchConfig, SwitchLLM
engine = {"kind": "openai", "base_url": "http://localhost:1/v1", "model": "x"}
candidates = [{"name": name, "engine": engine} for name in "ab"]
SwitchLLM(config=SwitchConfig.from_dict({"candidates": candidates})).switch
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert "MissingExtraError" in done.stderr
    assert "pip install 'langgraph-switch[openai]'" in done.stderr
