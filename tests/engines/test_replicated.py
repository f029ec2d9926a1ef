from __future__ import annotations

from typing import Any

import pytest
from failing_engines import DOWN, NAN, FlakyEngine, always, first_times
from tiny_models import Recital, make_engine, random_model, switch_config

from langgraph_switch import ScriptedEngine, Switch, SwitchLLM
from langgraph_switch.engines.base import (
    BatchError,
    Engine,
    GenerateRequest,
    LabelRequest,
    NewToken,
)
from langgraph_switch.engines.replicated import ReplicatedEngine
from langgraph_switch.errors import ConfigError, EngineError

TEXT = "naïve 🙂 日本語 and so on, until all of it has been said at last"


def request(row: str, said: str = "", **fields: Any) -> GenerateRequest:
    prefix = [*b"q\n", *said.encode()]
    given: dict[str, Any] = {"max_new_tokens": 200, "eos_token_ids": (256,)} | fields
    return GenerateRequest(row=row, prefix=prefix, response_start=2, **given)


def replicas(number: int = 3, **fields: Any) -> list[FlakyEngine]:
    given: dict[str, Any] = {"breaks": lambda _: None} | fields
    return [FlakyEngine(Recital(TEXT), **given) for _ in range(number)]


def rows_of(engine: FlakyEngine) -> set[str]:
    return {one.row for call in engine.calls for one in call}


def test_rows_are_spread_and_stay_where_they_are() -> None:
    servers = replicas()
    engine = ReplicatedEngine(servers)
    rows = [f"run/{i}" for i in range(30)]
    for _ in range(3):
        engine.generate([request(row) for row in rows])
    served = [rows_of(one) for one in servers]
    assert sorted(row for one in served for row in one) == sorted(rows), "each row on one replica"
    assert all(len(one) > 3 for one in served)
    again = ReplicatedEngine(replicas())
    assert [again.place(row) for row in rows] == [engine.place(row) for row in rows]


@pytest.mark.parametrize("after_tokens", [0, 2, 5])
def test_another_replica_goes_on_from_what_was_shown(after_tokens: int) -> None:
    servers = replicas(2)
    engine = ReplicatedEngine(servers)
    home = engine.place("run/0")
    servers[home]._breaks = always(DOWN)
    servers[home]._after_tokens = after_tokens
    told: list[str] = []
    [written] = engine.generate([request("run/0")], lambda _, token: told.append(token.text))
    assert written.text == "".join(told) == TEXT
    assert bytes(written.token_ids) == TEXT.encode()
    assert len(servers[home].calls) == 1
    servers[home]._breaks = lambda _: None
    engine.generate([request("run/0")])
    assert engine.place("run/0") == 1 - home, "its cache is there now"
    engine.release(["run/0"])
    assert all(one.released == ["run/0"] for one in servers)


def test_a_replica_on_cooldown_is_left_alone_until_it_is_over() -> None:
    now = 0.0
    servers = replicas(2)
    engine = ReplicatedEngine(servers, clock=lambda: now)
    home = engine.place("run/0")
    servers[home]._breaks = first_times(DOWN, 1)
    engine.generate([request("run/0")])
    rows = [f"other/{i}" for i in range(20)]
    engine.generate([request(row) for row in rows])
    assert len(servers[home].calls) == 1
    now = 31.0
    engine.generate([request(f"late/{i}") for i in range(20)])
    assert len(servers[home].calls) == 2


def test_each_replica_is_called_once_and_then_all_have_failed() -> None:
    servers = replicas(3, breaks=always(DOWN))
    engine = ReplicatedEngine(servers)
    with pytest.raises(EngineError, match="server is down") as caught:
        engine.generate([request("run/0")])
    assert caught.value.retryable
    assert [len(one.calls) for one in servers] == [1, 1, 1]
    with pytest.raises(EngineError):  # All on cooldown: one call shows whether that still holds.
        engine.generate([request("run/0")])
    assert sum(len(one.calls) for one in servers) == 4


def test_an_error_that_does_not_pass_is_no_other_replicas_business() -> None:
    servers = replicas(2, breaks=always(NAN))
    with pytest.raises(EngineError, match="NaN"):
        ReplicatedEngine(servers).generate([request("run/0")])
    assert sum(len(one.calls) for one in servers) == 1


def test_only_rows_without_a_replica_fail() -> None:
    def breaks(one: GenerateRequest) -> EngineError | None:
        return DOWN if one.row in {"run/2", "run/5"} else None

    servers = replicas(2, breaks=breaks, tells_rows_apart=True)
    told: dict[int, str] = dict.fromkeys(range(8), "")

    def on_token(index: int, token: NewToken) -> None:
        told[index] += token.text

    with pytest.raises(BatchError) as caught:
        ReplicatedEngine(servers).generate([request(f"run/{i}") for i in range(8)], on_token)
    failed = {i for i, one in enumerate(caught.value.outcomes) if isinstance(one, EngineError)}
    assert failed == {2, 5}
    assert {told[i] for i in range(8) if i not in failed} == {TEXT}


def test_forks_go_where_their_prefix_is() -> None:
    servers = replicas(3)
    engine = ReplicatedEngine(servers)
    engine.generate([request("prefix")])
    engine.generate([request(f"fork/{i}", fork_of="prefix") for i in range(9)])
    engine.generate([request(f"fork/{i}") for i in range(9)])
    home = engine.place("prefix")
    assert {engine.place(f"fork/{i}") for i in range(9)} == {home}
    assert [bool(one.calls) for one in servers] == [i == home for i in range(3)]


def test_labels_come_from_another_replica_too() -> None:
    servers = [
        FlakyEngine(ScriptedEngine(labels=lambda _: (0.25, 0.75)), breaks=lambda _: None)
        for _ in range(2)
    ]
    servers[0].label_error = DOWN
    asked = [LabelRequest(row=f"run/{i}", prefix=(1,), labels=((48,), (49,))) for i in range(8)]
    engine = ReplicatedEngine(servers)
    assert len(engine.label_logprobs(asked)) == 8
    servers[1].label_error = DOWN
    with pytest.raises(EngineError):
        engine.label_logprobs(asked)


def test_a_switch_over_replicas_gives_one_models_text() -> None:
    model = random_model(seed=1)
    other = make_engine(random_model(seed=2))
    given = switch_config("ab", sampling={"temperature": 1.0}, max_tokens=40)
    expected = SwitchLLM(config=given, engines={"a": make_engine(model), "b": other})
    pair: Engine = ReplicatedEngine([make_engine(model), make_engine(model)])
    found = SwitchLLM(config=given, engines={"a": pair, "b": other})
    queries: list[Any] = [f"q{i}" for i in range(6)]
    assert found.batch(queries) == expected.batch(queries)
    assert [found.invoke(query) for query in queries] == expected.batch(queries)


def test_a_dead_replica_costs_no_hand_over() -> None:
    servers = replicas(2)
    servers[0]._breaks = always(DOWN)
    servers[0]._after_tokens = 3
    given = switch_config("ab", max_tokens=200, switcher={"kind": "fixed", "order": ["a"]})
    switch = Switch(given, engines={"a": ReplicatedEngine(servers), "b": Recital(TEXT)})
    llm = SwitchLLM(config=given, engines={n: c.engine for n, c in switch.candidates.items()})
    for _ in range(4):
        [[generation]] = llm.generate(["q"]).generations
        assert generation.text == TEXT
        segments = (generation.generation_info or {})["trace"]["segments"]
        assert "failover" not in {one["decided_by"] for one in segments}


def test_what_is_no_replica_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs replicas"):
        ReplicatedEngine([])
    with pytest.raises(ConfigError, match="different tokenizers"):
        ReplicatedEngine([Recital(TEXT), make_engine(random_model())])
