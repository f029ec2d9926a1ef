"""`ChatSwitch` on the embedded family: one answer however it is asked for, and told by whom."""

from __future__ import annotations

import asyncio
import pickle
import time
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import get_usage_metadata_callback
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage
from langchain_core.rate_limiters import InMemoryRateLimiter
from pydantic import ValidationError

from langgraph_switch import ChatSwitch, Switch, SwitchLLM, provenance
from langgraph_switch.engines.transformers_engine import TransformersEngine
from langgraph_switch.errors import InputError
from langgraph_switch.families import embedded_config

QUESTION = [("human", "How many legs do 3 spiders and 2 cats have in total?")]
QUESTIONS = [
    [("human", f"How many legs do {number} spiders and {more} cats have in total?")]
    for number in range(2, 6)
    for more in range(2, 6)
]


@pytest.fixture(scope="module")
def chat() -> ChatSwitch:
    return ChatSwitch.embedded()


def added_up(chunks: Any) -> AIMessageChunk:
    first, *rest = chunks
    for chunk in rest:
        first += chunk
    return first


def test_the_answer_is_the_llms_and_says_who_wrote_what(chat: ChatSwitch) -> None:
    answer = chat.invoke(QUESTION)
    assert answer.content == SwitchLLM.embedded().invoke(QUESTION[0][1])
    segments = provenance(answer)
    assert "".join(segment["text"] for segment in segments) == answer.content
    assert {segment["speaker"] for segment in segments} <= set(chat.config.names)
    assert segments[0]["decided_by"] == "anchor"
    by_candidate = answer.response_metadata["output_tokens_by_candidate"]
    assert answer.usage_metadata is not None
    assert sum(by_candidate.values()) == answer.usage_metadata["output_tokens"]
    assert answer.response_metadata["finish_reason"] == "eos"


def test_chunks_add_up_to_the_message(chat: ChatSwitch) -> None:
    whole = chat.invoke(QUESTION)
    chunks = list(chat.stream(QUESTION))
    summed = added_up(chunks)
    assert len([chunk for chunk in chunks if chunk.content]) > 10
    assert summed.content == whole.content
    assert summed.usage_metadata == whole.usage_metadata
    assert provenance(summed) == provenance(whole)
    for key in ("model_name", "finish_reason", "seed", "output_tokens_by_candidate"):
        assert summed.response_metadata[key] == whole.response_metadata[key]


def test_sampled_chunks_add_up_to_the_sampled_message(chat: ChatSwitch) -> None:
    options: dict[str, Any] = {"temperature": 1.2, "seed": 3}
    whole = chat.invoke(QUESTION, **options)
    summed = added_up(chat.stream(QUESTION, **options))
    assert summed.content == whole.content != chat.invoke(QUESTION).content
    assert provenance(summed) == provenance(whole)


async def test_awaited_answers_are_the_same(chat: ChatSwitch) -> None:
    whole = chat.invoke(QUESTION)
    assert (await chat.ainvoke(QUESTION)).content == whole.content
    summed = added_up([chunk async for chunk in chat.astream(QUESTION)])
    assert summed.content == whole.content
    assert provenance(summed) == provenance(whole)


async def test_many_calls_at_once_give_the_answers_of_calls_in_a_row(chat: ChatSwitch) -> None:
    alone = [chat.invoke(question).content for question in QUESTIONS]
    together = await asyncio.gather(*(chat.ainvoke(question) for question in QUESTIONS))
    assert [answer.content for answer in together] == alone
    assert [answer.content for answer in chat.batch(QUESTIONS)] == alone


async def test_calls_at_once_meet_in_the_engines() -> None:
    chat = ChatSwitch.embedded()
    sizes: list[int] = []
    engine = chat.switch.candidates["aligned"].engine
    assert isinstance(engine, TransformersEngine)
    original = engine.meeting._work

    def counted(requests: Any, on_token: Any) -> Any:
        sizes.append(len(requests))
        return original(requests, on_token)

    engine.meeting._work = counted
    await asyncio.gather(*(chat.ainvoke(question) for question in QUESTIONS))
    assert max(sizes) > len(QUESTIONS) // 2


def test_options_by_call_and_by_field(chat: ChatSwitch) -> None:
    short = chat.invoke(QUESTION, max_tokens=9)
    assert short.usage_metadata is not None
    assert short.usage_metadata["output_tokens"] == 9
    assert short.response_metadata["finish_reason"] == "length"
    own = ChatSwitch.embedded(max_tokens=9)
    assert own.invoke(QUESTION).content == short.content
    stopped = chat.invoke(QUESTION, stop=["A cat"])
    assert stopped.text.endswith("8 legs. ")
    warm = [chat.invoke(QUESTION, temperature=1.5, seed=seed).content for seed in (1, 1, 2)]
    assert warm[0] == warm[1] != warm[2]
    assert chat.invoke(QUESTION, seed=7).response_metadata["seed"] == 7


def test_one_candidate_can_be_asked_alone(chat: ChatSwitch) -> None:
    answer = chat.invoke(QUESTION, model="finetuned")
    assert {segment["speaker"] for segment in provenance(answer)} == {"finetuned"}
    assert answer.response_metadata["model_name"] == "finetuned"
    with pytest.raises(InputError, match="no candidate: 'gpt'"):
        chat.invoke(QUESTION, model="gpt")


def test_a_system_message_and_earlier_turns_are_read(chat: ChatSwitch) -> None:
    dialogue = [
        SystemMessage("You know animals."),
        HumanMessage("How many legs does a cat have?"),
        AIMessage("4"),
        HumanMessage("How many legs does a spider have?"),
    ]
    trace = chat.switch.candidates["aligned"].prompt
    first = chat.invoke(dialogue)
    assert first.usage_metadata is not None
    only_last = chat.invoke(dialogue[-1:])
    assert only_last.usage_metadata is not None
    assert first.usage_metadata["input_tokens"] > only_last.usage_metadata["input_tokens"]
    assert trace.kind == "chat"


@pytest.mark.parametrize(
    ("messages", "options", "problem"),
    [
        ([], {}, "no messages"),
        ([("system", "Be kind.")], {}, "only a system message"),
        ([HumanMessage([{"type": "image_url", "image_url": "x"}])], {}, "image_url"),
        ([HumanMessage([{"type": "audio", "base64": "x"}])], {}, "audio"),
        (QUESTION, {"top_q": 1}, "no option 'top_q'"),
        (QUESTION, {"stop": [""]}, "not empty"),
        (QUESTION, {"seed": 1.5}, "seed"),
        (QUESTION, {"seed": "one"}, "seed"),
        (QUESTION, {"max_tokens": 0}, "max_tokens"),
        (QUESTION, {"temperature": -1}, "temperature"),
    ],
)
def test_bad_input_is_refused(
    chat: ChatSwitch, messages: Any, options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        chat.invoke(messages, **options)
    assert caught.value.hint
    with pytest.raises(InputError, match=problem):
        list(chat.stream(messages, **options))


def test_wrong_fields_are_refused() -> None:
    for field in ({"temperatur": 0}, {"seed": -1}, {"max_tokens": 0}):
        with pytest.raises(ValidationError):
            ChatSwitch(config=embedded_config(), **field)


def test_a_cache_tells_options_apart_and_a_limiter_is_asked(chat: ChatSwitch) -> None:
    cached = chat.model_copy(update={"cache": InMemoryCache()})
    first = cached.invoke(QUESTION, max_tokens=6)
    assert cached.invoke(QUESTION, max_tokens=6).content == first.content
    assert cached.invoke(QUESTION, max_tokens=12).content != first.content
    limited = chat.model_copy(update={"rate_limiter": InMemoryRateLimiter(requests_per_second=20)})
    started = time.monotonic()
    for _ in range(4):
        limited.invoke(QUESTION, max_tokens=1)
    assert time.monotonic() - started > 0.1


def test_usage_is_counted_by_langchain(chat: ChatSwitch) -> None:
    with get_usage_metadata_callback() as counted:
        answer = chat.invoke(QUESTION)
    assert counted.usage_metadata[chat.model_name] == answer.usage_metadata


def test_a_copy_by_pickle_answers_alike_and_dumps_holds_no_weights(chat: ChatSwitch) -> None:
    chat.invoke(QUESTION)
    data = pickle.dumps(chat)
    assert len(data) < 20_000
    assert pickle.loads(data).invoke(QUESTION).content == chat.invoke(QUESTION).content  # noqa: S301
    assert len(dumps(chat)) < 20_000


def num_rows(switch: Switch) -> int:
    engines = {id(c.engine): c.engine for c in switch.candidates.values()}
    return sum(engine.num_rows for engine in engines.values())  # type: ignore[attr-defined]


async def test_nothing_stays_in_the_engines_however_a_call_ends() -> None:
    chat = ChatSwitch.embedded()
    chat.invoke(QUESTION)
    stream = chat.stream(QUESTION)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert num_rows(chat.switch) == 0
    awaited = chat.astream(QUESTION)
    await anext(awaited)
    await awaited.aclose()  # type: ignore[attr-defined]
    task = asyncio.create_task(chat.ainvoke(QUESTION))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert num_rows(chat.switch) == 0
    assert (await chat.ainvoke(QUESTION)).content == chat.invoke(QUESTION).content


def test_the_picture_is_the_state_machine(chat: ChatSwitch) -> None:
    nodes = set(chat.get_graph().nodes)
    assert {"decide", "append", "generate_aligned", "generate_pretrained"} <= nodes
