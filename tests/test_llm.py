from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
import torch
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.load import dumpd
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import PromptTemplate
from langchain_core.runnables import RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from tiny_models import TEMPLATE, byte_tokenizer, greedy, make_engine, random_model, switch_config
from typing_extensions import TypedDict

from langgraph_switch import CheckpointLLM, ScriptedEngine, SwitchLLM
from langgraph_switch.engines.tokenizer import HFTokenizer
from langgraph_switch.errors import (
    ContextLengthError,
    EngineError,
    GenerationError,
    InputError,
)
from langgraph_switch.trace import Message, Trace

QUERIES = ["hello", "how are you today?", "x", "naïve 🙂 日本語", "1 2 3", "a b", "?!", "one more"]
SAMPLED: dict[str, Any] = {"temperature": 1.0, "top_p": 0.95}


def copies(**fields: Any) -> tuple[SwitchLLM, Any]:
    """Return a switch among copies of one model that has rows of its own per copy."""
    model = random_model(max_position_embeddings=4096)
    engines = {name: make_engine(model) for name in "abc"}
    return SwitchLLM(config=switch_config(**fields), engines=engines), model


def distinct(**fields: Any) -> SwitchLLM:
    """Return a sampling switch among different models, with an LM switcher."""
    models = {name: random_model(seed=seed) for seed, name in enumerate("abc")}
    defaults: dict[str, Any] = {
        "switcher": {"kind": "lm", "candidate": "c"},
        "sampling": SAMPLED,
        "max_tokens": 30,
    }
    return SwitchLLM(
        config=switch_config(**(defaults | fields)),
        engines={name: make_engine(model) for name, model in models.items()},
    )


def traces(llm: SwitchLLM | CheckpointLLM, queries: list[str], **options: Any) -> list[Trace]:
    result = llm.generate(queries, **options)
    return [Trace.from_json(row[0].generation_info["trace"]) for row in result.generations]


def tokens(trace: Trace) -> list[int]:
    return [token for segment in trace.segments for token in segment.token_ids]


SWITCHERS: dict[str, dict[str, Any]] = {
    "random": {"kind": "random"},
    "fixed": {"kind": "fixed", "order": ["b", "a", "c"]},
    "lm": {"kind": "lm", "candidate": "a"},
}


@pytest.mark.parametrize("switcher", SWITCHERS)
@pytest.mark.parametrize("segment", [1, 7, 50])
@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_copies_of_one_model_equal_its_plain_generate(
    switcher: str, segment: int, batch_size: int
) -> None:
    llm, model = copies(switcher=SWITCHERS[switcher], segment={"max_tokens": segment})
    queries = QUERIES[:batch_size]
    for query, trace in zip(queries, traces(llm, queries), strict=True):
        prompt = byte_tokenizer().encode(query)
        assert tokens(trace) == greedy(model, prompt, 60)
        assert trace.text == HFTokenizer(byte_tokenizer()).decode(tokens(trace))


def test_copies_that_read_a_chat_continue_one_assistant_turn() -> None:
    model, tokenizer = random_model(), byte_tokenizer(TEMPLATE)
    config = switch_config(
        candidates=[{"name": name, "model": name} for name in "ab"], segment={"max_tokens": 5}
    )
    llm = SwitchLLM(config=config, engines={n: make_engine(model, tokenizer) for n in "ab"})
    rendered = HFTokenizer(tokenizer).render_chat([Message(role="user", content=" hi  ")])
    expected = greedy(model, tokenizer.encode(rendered, add_special_tokens=False), 60)
    assert tokens(traces(llm, [" hi  "])[0]) == expected


@pytest.mark.parametrize("kv_cache_bytes", [0, 100_000])
def test_memory_changes_nothing(kv_cache_bytes: int) -> None:
    def answers(num_bytes: int) -> list[str]:
        models = {name: random_model(seed=seed) for seed, name in enumerate("abc")}
        engines = {n: make_engine(m, kv_cache_bytes=num_bytes) for n, m in models.items()}
        config = switch_config(sampling=SAMPLED, switcher={"kind": "lm", "candidate": "a"})
        return SwitchLLM(config=config, engines=engines).batch(QUERIES)

    assert answers(kv_cache_bytes) == answers(2**30)


async def test_a_seed_gives_one_text_however_it_is_asked_for() -> None:
    llm = distinct()
    alone = [llm.invoke(query) for query in QUERIES]
    assert len(set(alone)) == len(QUERIES)
    assert llm.batch(QUERIES) == alone
    assert llm.batch(QUERIES[::-1])[::-1] == alone
    assert ["".join(llm.stream(query)) for query in QUERIES] == alone
    assert await llm.abatch(QUERIES) == alone
    assert list(await asyncio.gather(*(llm.ainvoke(query) for query in QUERIES))) == alone
    assert ["".join([text async for text in llm.astream(query)]) for query in QUERIES] == alone
    assert distinct(limits={"live_traces": 1}).batch(QUERIES) == alone
    assert llm.batch(QUERIES, {"max_concurrency": 3}) == alone
    assert llm.invoke(QUERIES[0], seed=2) != alone[0]


def test_threads_get_what_calls_in_a_row_get() -> None:
    llm = distinct()
    expected = [llm.invoke(query) for query in QUERIES]
    found: dict[int, str] = {}
    threads = [
        threading.Thread(target=lambda i=i: found.update({i: llm.invoke(QUERIES[i])}))
        for i in range(len(QUERIES))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[i] for i in range(len(QUERIES))] == expected


def test_without_a_seed_every_call_draws_its_own_and_records_it() -> None:
    llm = distinct(seed=None)
    first, second = traces(llm, ["hello"])[0], traces(llm, ["hello"])[0]
    assert first.seed != second.seed
    assert llm.invoke("hello", seed=first.seed) == first.text


@pytest.mark.parametrize(("max_tokens", "segment"), [(512, 50), (20, 50), (600, 5), (7, 7)])
def test_the_response_has_exactly_the_tokens_asked_for(max_tokens: int, segment: int) -> None:
    llm, _ = copies(max_tokens=max_tokens, segment={"max_tokens": segment})
    assert [len(tokens(trace)) for trace in traces(llm, QUERIES[:2])] == [max_tokens] * 2


def test_600_tokens_in_segments_of_5_pass_every_recursion_limit() -> None:
    llm, _ = copies(max_tokens=600, segment={"max_tokens": 5})
    expected = llm.invoke("hello")
    chain = PromptTemplate.from_template("{word}") | llm | StrOutputParser()
    assert chain.invoke({"word": "hello"}) == expected
    assert chain.batch([{"word": "hello"}]) == [expected]
    assert "".join(chain.stream({"word": "hello"})) == expected
    assert RunnableLambda(llm.invoke).invoke("hello") == expected
    assert asyncio.run(chain.ainvoke({"word": "hello"})) == expected


def test_it_may_be_called_several_times_in_a_node_of_somebodys_graph() -> None:
    llm = distinct()

    class State(TypedDict):
        texts: list[str]

    def node(state: State) -> State:
        return {"texts": [llm.invoke(text) + "".join(llm.stream(text)) for text in state["texts"]]}

    graph = StateGraph(State)
    graph.add_node("node", node)
    graph.add_edge(START, "node")
    graph.add_edge("node", END)
    app = graph.compile(checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "t"}}
    found = app.invoke({"texts": QUERIES[:2]}, config)
    assert found["texts"] == [llm.invoke(text) * 2 for text in QUERIES[:2]]
    assert len(list(app.get_state_history(config))) == 3  # The switch left none of its own.


def test_options_by_call() -> None:
    llm = distinct()
    assert len(tokens(traces(llm, ["hello"], max_tokens=5)[0])) == 5
    cold = distinct(sampling={"temperature": 0})
    assert llm.invoke("hello", temperature=0) == cold.invoke("hello")
    whole = llm.invoke("hello")
    stop = whole[4:6]
    assert llm.invoke("hello", stop=[stop]) == whole[: whole.index(stop)]
    assert llm.bind(stop=[stop]).invoke("hello") == whole[: whole.index(stop)]
    assert "".join(llm.stream("hello", stop=[stop])) == whole[: whole.index(stop)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"foo": 1}, "no option 'foo'"),
        ({"seed": "1"}, "`seed` must be an integer"),
        ({"seed": -1}, "`seed` must be an integer"),
        ({"max_tokens": 0}, "`max_tokens` must be a positive integer"),
        ({"temperature": -1}, "`temperature` must be a number"),
        ({"stop": [""]}, "Stop strings must be texts that are not empty"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    llm = distinct()
    with pytest.raises(InputError, match=message):
        llm.invoke("hello", **options)
    with pytest.raises(InputError, match=message):
        list(llm.stream("hello", **options))


@pytest.mark.parametrize("query", ["", "  \n"])
def test_an_empty_query_is_refused(query: str) -> None:
    with pytest.raises(InputError, match="query is empty"):
        distinct().invoke(query)


def test_too_long_a_query_names_the_candidate_and_what_to_set() -> None:
    llm = distinct(max_tokens=100)
    with pytest.raises(ContextLengthError, match=r"'a' needs 2100 .* 52 too many") as caught:
        llm.invoke("x" * 2000)
    assert "set max_tokens to at most 48" in caught.value.hint
    with pytest.raises(ContextLengthError, match="shorten the query by 2 tokens"):
        llm.invoke("x" * 2049)


def test_one_bad_query_of_a_batch_can_be_returned_as_its_exception() -> None:
    found = distinct().batch(["", "hello"], return_exceptions=True)
    assert all(isinstance(one, InputError) for one in found)


def test_usage_and_provenance_add_up() -> None:
    llm = distinct()
    result = llm.generate(QUERIES[:3])
    infos = [row[0].generation_info for row in result.generations]
    for info, query in zip(infos, QUERIES, strict=False):
        trace, usage = Trace.from_json(info["trace"]), info["usage"]
        assert usage["output_tokens"] == len(tokens(trace)) == 30
        assert usage["input_tokens"] == len(query.encode())
        assert sum(usage["output_tokens_by_candidate"].values()) == 30
        assert trace.text == "".join(segment.text for segment in trace.segments)
        assert [s.decided_by for s in trace.segments] == [
            "anchor",
            *["switcher"] * (len(trace.segments) - 2),
            "anchor",
        ]
        for segment in trace.segments[1:-1]:
            assert segment.probabilities is not None
            assert sum(segment.probabilities) == pytest.approx(1)
    total = result.llm_output["token_usage"]
    assert total["output_tokens"] == 90


def test_streamed_chunks_say_who_wrote_them() -> None:
    llm = distinct()
    spoken: dict[int, str] = {}
    final: dict[str, Any] = {}
    for chunk in llm._stream("hello"):
        info = chunk.generation_info or {}
        for source in info.get("provenance", []):
            assert source["text"] == chunk.text
            spoken[source["segment"]] = spoken.get(source["segment"], "") + source["text"]
        final = info
    trace = Trace.from_json(final["trace"])
    assert spoken == {i: s.text for i, s in enumerate(trace.segments) if s.text}
    assert final["finish_reason"] == "length"


class Recorder(BaseCallbackHandler):
    def __init__(self) -> None:
        self.heard: list[str] = []
        self.text = ""

    def on_llm_start(self, *_: Any, **__: Any) -> None:
        self.heard.append("start")

    def on_llm_new_token(self, token: str, **_: Any) -> None:
        self.text += token

    def on_llm_end(self, *_: Any, **__: Any) -> None:
        self.heard.append("end")

    def on_llm_error(self, *_: Any, **__: Any) -> None:
        self.heard.append("error")

    def on_chain_start(self, *_: Any, **__: Any) -> None:
        self.heard.append("chain")


class AsyncRecorder(AsyncCallbackHandler):
    def __init__(self) -> None:
        self.text = ""

    async def on_llm_new_token(self, token: str, **_: Any) -> None:
        self.text += token


def test_a_call_with_options_is_described_as_the_llm_is() -> None:
    described: list[Any] = []

    class Descriptions(BaseCallbackHandler):
        def on_llm_start(self, serialized: Any, *_: Any, **__: Any) -> None:
            described.append(serialized)

    llm = distinct()
    llm.invoke("hello", {"callbacks": [Descriptions()]}, seed=1)
    llm.invoke("hello", {"callbacks": [Descriptions()]})
    assert described == [dumpd(llm), dumpd(llm)]


async def test_callbacks_hear_of_tokens_and_not_of_the_machines_steps() -> None:
    llm, recorder, other = distinct(), Recorder(), AsyncRecorder()
    text = "".join(llm.stream("hello", {"callbacks": [recorder]}))
    assert (recorder.heard, recorder.text) == (["start", "end"], text)
    found = [part async for part in llm.astream("hello", {"callbacks": [other]})]
    assert "".join(found) == other.text == text
    with pytest.raises(InputError):
        llm.invoke("", {"callbacks": [recorder]})
    assert recorder.heard[2:] == ["start", "error"]


def test_a_cache_answers_equal_calls_and_no_others() -> None:
    def counting(text: str) -> tuple[SwitchLLM, ScriptedEngine]:
        engine = ScriptedEngine(lambda _: text)
        config = switch_config("ab", max_tokens=5)
        return SwitchLLM(config=config, engines={"a": engine, "b": engine}, cache=cache), engine

    cache = InMemoryCache()
    llm, engine = counting("hello")
    assert [llm.invoke("q"), llm.invoke("q")] == ["hello"] * 2
    assert len(engine.calls) == 1
    llm.invoke("q", seed=5)
    llm.invoke("q", stop=["x"])
    assert len(engine.calls) == 3
    other = SwitchLLM(
        config=switch_config("ab", max_tokens=4), engines={"a": engine, "b": engine}, cache=cache
    )
    assert other.invoke("q") == "hell"


def test_a_failing_engine_keeps_what_was_written_and_leaves_no_rows() -> None:
    working = make_engine(random_model())
    failing = ScriptedEngine([EngineError("the disk is on fire")], tokenizer=working.tokenizer)
    config = switch_config(
        "ab",
        anchor={"candidate": "a"},
        switcher={"kind": "fixed", "order": ["a", "a", "b"]},
        failover={"enabled": False},
    )
    llm = SwitchLLM(config=config, engines={"a": working, "b": failing})
    with pytest.raises(GenerationError, match="the disk is on fire") as caught:
        llm.batch(["hello", "you"])
    assert [len(trace.segments) for trace in caught.value.traces] == [2, 2]
    assert all(trace.text for trace in caught.value.traces)
    assert working.num_rows == 0
    config = switch_config(
        "ab", switcher={"kind": "fixed", "order": ["a"]}, anchor={"first": False}
    )
    assert SwitchLLM(config=config, engines={"a": working, "b": working}).invoke("hello")


def test_unforeseen_errors_pass_through_and_leave_no_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model()
    engine = make_engine(model)
    llm = SwitchLLM(config=switch_config("ab"), engines={"a": engine, "b": engine})
    forward, calls = model.forward, []

    def fail_later(**kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) > 12:
            raise RuntimeError("a bug")
        return forward(**kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(model, "forward", fail_later)
        with pytest.raises(RuntimeError, match="a bug"):
            llm.invoke("hello")
    assert engine.num_rows == 0
    assert llm.invoke("hello")


def test_a_stream_that_is_closed_early_leaves_no_rows() -> None:
    llm = distinct()
    stream = llm.stream("hello")
    next(stream)
    stream.close()
    assert all(e.num_rows == 0 for e in llm.engines.values())
    assert llm.invoke("hello") == distinct().invoke("hello")


def test_a_checkpoint_alone_is_plain_generate() -> None:
    model = random_model()
    llm = CheckpointLLM(
        model="tiny",
        engine=make_engine(model),
        max_tokens=40,
        sampling={"temperature": 0},
        prompt={"kind": "plain", "plain_template": "{query}"},
    )
    for query, trace in zip(QUERIES, traces(llm, QUERIES), strict=True):
        assert tokens(trace) == greedy(model, byte_tokenizer().encode(query), 40)
        assert len(trace.segments) == 1
    assert "".join(llm.stream("hello")) == llm.invoke("hello")
    assert len(tokens(traces(llm, ["hello"], max_tokens=5)[0])) == 5


def test_nothing_is_loaded_before_it_is_used() -> None:
    llm = SwitchLLM(config=switch_config())
    assert llm.config.names == ("a", "b", "c")
    assert CheckpointLLM(model="./nowhere").model == "./nowhere"


def test_torch_is_left_as_it_was() -> None:
    before = (torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads())
    distinct().invoke("hello")
    assert before == (torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads())
