from __future__ import annotations

from typing import Any

import pytest
from tiny_models import switch_config

from langgraph_switch.errors import InputError
from langgraph_switch.queries import trace_from_query
from langgraph_switch.trace import Message, Trace

CONFIG = switch_config(max_tokens=9, seed=5, stop=["END"])


def test_a_text_takes_everything_else_from_the_configuration() -> None:
    trace = trace_from_query("hello", CONFIG)
    assert trace.messages == (Message(role="user", content="hello"),)
    assert (trace.seed, trace.max_tokens, trace.stop, trace.temperature) == (5, 9, ("END",), None)
    assert not trace.segments
    assert not trace.is_finished


def test_an_object_overrides_the_configuration() -> None:
    trace = trace_from_query(
        {"query": "hi", "seed": 0, "max_tokens": 2, "stop": [], "temperature": 0, "trace_id": 0},
        CONFIG,
    )
    assert (trace.seed, trace.max_tokens, trace.stop, trace.temperature) == (0, 2, (), 0.0)
    assert trace.trace_id == "0"


def test_none_leaves_an_option_to_the_configuration() -> None:
    options = dict.fromkeys(("seed", "max_tokens", "stop", "temperature", "trace_id"))
    assert trace_from_query({"query": "hi"} | options, CONFIG) == trace_from_query("hi", CONFIG)


def test_a_single_stop_string_needs_no_list() -> None:
    assert trace_from_query({"query": "hi", "stop": "ab"}, CONFIG).stop == ("ab",)


def test_equal_queries_have_equal_ids_and_others_others() -> None:
    first, second, other = (trace_from_query(query, CONFIG) for query in ("hi", "hi", "hi "))
    assert first.trace_id == second.trace_id != other.trace_id
    as_message = trace_from_query({"messages": [{"role": "user", "content": "hi"}]}, CONFIG)
    assert as_message == first


def test_an_open_seed_is_drawn_anew_for_every_query() -> None:
    open_seed = CONFIG.with_changes(seed=None)
    assert len({trace_from_query("hi", open_seed).seed for _ in range(8)}) > 1
    assert trace_from_query({"query": "hi", "seed": 3}, open_seed).seed == 3


def test_the_words_of_a_conversation_are_one_text() -> None:
    trace = trace_from_query(
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Why?"},
            ]
        },
        CONFIG,
    )
    assert trace.query == "System: Be brief.\n\nUser: Why?"
    assert Trace.from_json(trace.to_json()) == trace


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (5, "must be a text or an object, not int"),
        (None, "must be a text or an object, not NoneType"),
        (["hello"], "must be a text or an object, not list"),
        ({"query": "x", "sed": 1}, "no key 'sed'"),
        ({"query": "x", 3: 1}, "no key '3'"),
        ({}, "exactly one of"),
        ({"query": "x", "messages": []}, "exactly one of"),
        ({"query": b"x"}, "`query` must be a string, not bytes"),
        ({"messages": "x"}, "`messages` must be a list"),
        ({"messages": ["x"]}, "needs a role"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "needs a role"),
        ({"query": "x", "seed": True}, "`seed` must be an integer"),
        ({"query": "x", "seed": 1.0}, "`seed` must be an integer"),
        ({"query": "x", "seed": 2**63}, "`seed` must be an integer"),
        ({"query": "x", "max_tokens": "5"}, "`max_tokens` must be a positive integer"),
        ({"query": "x", "max_tokens": True}, "`max_tokens` must be a positive integer"),
        ({"query": "x", "stop": ["a", ""]}, "Stop strings must be texts"),
        ({"query": "x", "stop": [1]}, "Stop strings must be texts"),
        ({"query": "x", "temperature": float("nan")}, "`temperature` must be a number"),
        ({"query": "x", "temperature": 11}, "`temperature` must be a number"),
        ({"query": "x", "temperature": "0"}, "`temperature` must be a number"),
    ],
)
def test_a_malformed_query_is_refused_with_what_to_write(query: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        trace_from_query(query, CONFIG)
    assert caught.value.hint
