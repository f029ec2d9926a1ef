"""What any plain LangChain LLM has to do; LangChain's own suites cover chat models only.

Subclass `LLMConformance`, override its fixtures, and let pytest collect the subclass.
"""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.language_models import BaseLLM
from langchain_core.load import dumpd
from langchain_core.messages import HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import LLMResult
from langchain_core.prompt_values import StringPromptValue
from langchain_core.prompts import PromptTemplate
from langchain_core.runnables import RunnableLambda


class Recorder(BaseCallbackHandler):
    """Notes what a sync call tells."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.tokens: list[str] = []
        self.results: list[LLMResult] = []
        self.errors: list[BaseException] = []
        self.run_ids: set[UUID] = set()
        self.started: dict[str, Any] = {}

    def on_llm_start(self, serialized: Any, prompts: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self.events.append("start")
        self.run_ids.add(run_id)
        self.started = {"serialized": serialized, "prompts": prompts} | kwargs

    def on_llm_new_token(self, token: str, **_: Any) -> None:
        self.tokens.append(token)

    def on_llm_end(self, response: LLMResult, **_: Any) -> None:
        self.events.append("end")
        self.results.append(response)

    def on_llm_error(self, error: BaseException, **_: Any) -> None:
        self.events.append("error")
        self.errors.append(error)


class AsyncRecorder(AsyncCallbackHandler):
    """Notes what an async call tells."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.tokens: list[str] = []

    async def on_llm_start(self, *_: Any, **__: Any) -> None:
        self.events.append("start")

    async def on_llm_new_token(self, token: str, **_: Any) -> None:
        self.tokens.append(token)

    async def on_llm_end(self, *_: Any, **__: Any) -> None:
        self.events.append("end")

    async def on_llm_error(self, *_: Any, **__: Any) -> None:
        self.events.append("error")


class LLMConformance:
    """Tests of one LLM; `llm` must answer a prompt with the same text every time."""

    @pytest.fixture
    def llm(self) -> BaseLLM:
        """The LLM under test."""
        raise NotImplementedError

    @pytest.fixture
    def prompts(self) -> list[str]:
        """At least three prompts with different answers of at least five characters."""
        return ["hello", "how are you?", "one more"]

    @pytest.fixture
    def bad_prompt(self) -> str:
        """A prompt that the LLM refuses."""
        return ""

    @pytest.fixture
    def answers(self, llm: BaseLLM, prompts: list[str]) -> list[str]:
        return [llm.invoke(prompt) for prompt in prompts]

    def test_answers_are_texts_that_repeat(
        self, llm: BaseLLM, prompts: list[str], answers: list[str]
    ) -> None:
        assert all(isinstance(answer, str) and len(answer) >= 5 for answer in answers)
        assert len(set(answers)) == len(answers)
        assert [llm.invoke(prompt) for prompt in prompts] == answers

    def test_every_kind_of_input_is_read(
        self, llm: BaseLLM, prompts: list[str], answers: list[str]
    ) -> None:
        assert llm.invoke(StringPromptValue(text=prompts[0])) == answers[0]
        assert llm.invoke([HumanMessage(prompts[0])]) == llm.invoke(f"Human: {prompts[0]}")

    async def test_all_ways_to_ask_agree(
        self, llm: BaseLLM, prompts: list[str], answers: list[str]
    ) -> None:
        assert llm.batch(list(prompts)) == answers
        assert llm.batch(list(prompts), {"max_concurrency": 2}) == answers
        assert await llm.abatch(list(prompts)) == answers
        assert ["".join(llm.stream(prompt)) for prompt in prompts] == answers
        assert await asyncio.gather(*(llm.ainvoke(prompt) for prompt in prompts)) == answers
        streamed = ["".join([part async for part in llm.astream(prompt)]) for prompt in prompts]
        assert streamed == answers
        completed = dict(llm.batch_as_completed(list(prompts)))
        assert [completed[index] for index in range(len(prompts))] == answers

    def test_streaming_comes_in_pieces(self, llm: BaseLLM, prompts: list[str]) -> None:
        assert len([piece for piece in llm.stream(prompts[0]) if piece]) > 1

    def test_threads_get_the_same_answers(
        self, llm: BaseLLM, prompts: list[str], answers: list[str]
    ) -> None:
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(llm.invoke, prompts * 3)) == answers * 3

    def test_a_stop_string_ends_the_answer(
        self, llm: BaseLLM, prompts: list[str], answers: list[str]
    ) -> None:
        stop = answers[0][2:4]
        expected = answers[0][: answers[0].index(stop)]
        assert llm.invoke(prompts[0], stop=[stop]) == expected
        assert llm.bind(stop=[stop]).invoke(prompts[0]) == expected
        assert "".join(llm.stream(prompts[0], stop=[stop])) == expected
        assert llm.generate([prompts[0]], stop=[stop]).generations[0][0].text == expected

    def test_an_option_that_is_unknown_is_refused(self, llm: BaseLLM, prompts: list[str]) -> None:
        with pytest.raises((TypeError, ValueError), match="no_such_option"):
            llm.invoke(prompts[0], no_such_option=1)

    def test_a_result_has_one_generation_per_prompt(
        self, llm: BaseLLM, prompts: list[str], answers: list[str]
    ) -> None:
        result = llm.generate(prompts)
        assert [[one.text for one in row] for row in result.generations] == [[a] for a in answers]
        assert result.run is not None
        assert len({run.run_id for run in result.run}) == len(prompts)
        json.dumps([row[0].generation_info for row in result.generations])
        json.dumps(result.llm_output)

    def test_callbacks_hear_of_a_call(
        self, llm: BaseLLM, prompts: list[str], answers: list[str]
    ) -> None:
        recorder = Recorder()
        config: Any = {
            "callbacks": [recorder],
            "tags": ["mine"],
            "metadata": {"who": "me"},
            "run_name": "named",
        }
        llm.invoke(prompts[0], config)
        assert recorder.events == ["start", "end"]
        assert recorder.started["prompts"] == [prompts[0]]
        assert recorder.started["tags"] == ["mine"]
        assert recorder.started["metadata"]["who"] == "me"
        assert recorder.started["name"] == "named"
        assert recorder.started["invocation_params"]["_type"] == llm._llm_type
        assert recorder.results[0].generations[0][0].text == answers[0]

    def test_callbacks_hear_of_every_prompt_of_a_batch(
        self, llm: BaseLLM, prompts: list[str], answers: list[str]
    ) -> None:
        recorder = Recorder()
        llm.batch(list(prompts), {"callbacks": [recorder]})
        assert sorted(recorder.events) == ["end"] * len(prompts) + ["start"] * len(prompts)
        assert len(recorder.run_ids) == len(prompts)
        assert [result.generations[0][0].text for result in recorder.results] == answers

    async def test_callbacks_hear_of_streamed_tokens(
        self, llm: BaseLLM, prompts: list[str], answers: list[str]
    ) -> None:
        recorder, other = Recorder(), AsyncRecorder()
        list(llm.stream(prompts[0], {"callbacks": [recorder]}))
        assert ("".join(recorder.tokens), recorder.events) == (answers[0], ["start", "end"])
        assert recorder.results[0].generations[0][0].text == answers[0]
        async for _ in llm.astream(prompts[0], {"callbacks": [other]}):
            pass
        assert ("".join(other.tokens), other.events) == (answers[0], ["start", "end"])

    async def test_callbacks_hear_of_an_error(self, llm: BaseLLM, bad_prompt: str) -> None:
        for ask in (llm.invoke, lambda *args: list(llm.stream(*args))):
            recorder = Recorder()
            with pytest.raises(ValueError) as caught:  # noqa: PT011
                ask(bad_prompt, {"callbacks": [recorder]})
            assert recorder.events == ["start", "error"]
            assert recorder.errors == [caught.value]
        other = AsyncRecorder()
        with pytest.raises(ValueError):  # noqa: PT011
            await llm.ainvoke(bad_prompt, {"callbacks": [other]})
        assert other.events == ["start", "error"]

    def test_a_batch_can_return_its_exceptions(
        self, llm: BaseLLM, prompts: list[str], answers: list[str], bad_prompt: str
    ) -> None:
        config: Any = {"max_concurrency": 1}
        found = llm.batch([bad_prompt, prompts[0]], config, return_exceptions=True)
        assert isinstance(found[0], ValueError)
        assert found[1] == answers[0]

    async def test_it_works_in_a_chain(
        self, llm: BaseLLM, prompts: list[str], answers: list[str]
    ) -> None:
        chain = PromptTemplate.from_template("{text}") | llm | StrOutputParser()
        given: list[Any] = [{"text": prompt} for prompt in prompts]
        assert [chain.invoke(one) for one in given] == answers
        assert chain.batch(given) == answers
        assert await chain.abatch(given) == answers
        assert "".join(chain.stream(given[0])) == answers[0]
        assert "".join([part async for part in chain.astream(given[0])]) == answers[0]
        assert RunnableLambda(chain.invoke).invoke(given[0]) == answers[0]

    async def test_events_of_a_chain_tell_its_tokens(
        self, llm: BaseLLM, prompts: list[str], answers: list[str]
    ) -> None:
        chain = PromptTemplate.from_template("{text}") | llm
        events = [one async for one in chain.astream_events({"text": prompts[0]}, version="v2")]
        pieces = [e["data"]["chunk"].text for e in events if e["event"] == "on_llm_stream"]
        assert "".join(pieces) == answers[0]
        assert sum(e["event"] == "on_llm_start" for e in events) == 1
        assert sum(e["event"] == "on_llm_end" for e in events) == 1

    def test_it_can_stand_in_for_another(
        self, llm: BaseLLM, prompts: list[str], answers: list[str]
    ) -> None:
        def fail(_: Any) -> str:
            raise ConnectionError

        assert RunnableLambda(fail).with_fallbacks([llm]).invoke(prompts[0]) == answers[0]
        assert llm.with_retry(stop_after_attempt=1).invoke(prompts[0]) == answers[0]

    def test_a_cache_answers_what_was_asked_before(
        self, llm: BaseLLM, prompts: list[str], answers: list[str]
    ) -> None:
        cached = llm.model_copy(update={"cache": InMemoryCache()})
        recorder = Recorder()
        config: Any = {"callbacks": [recorder]}
        assert cached.batch(prompts[:2], config) == answers[:2]
        assert cached.batch(list(prompts), config) == answers
        assert recorder.events.count("start") == 3
        stop = answers[0][2:4]
        assert cached.invoke(prompts[0], stop=[stop]) == answers[0][: answers[0].index(stop)]

    async def test_an_async_cache_answers_what_was_asked_before(
        self, llm: BaseLLM, prompts: list[str], answers: list[str]
    ) -> None:
        cached = llm.model_copy(update={"cache": InMemoryCache()})
        recorder = AsyncRecorder()
        for _ in range(2):
            assert await cached.ainvoke(prompts[0], {"callbacks": [recorder]}) == answers[0]
        assert recorder.events == ["start", "end"]

    def test_what_identifies_it_is_plain_json(self, llm: BaseLLM) -> None:
        json.dumps(llm._identifying_params)
        json.dumps(dumpd(llm))
        assert llm._llm_type in str(llm.asdict()["_type"])

    def test_tokens_are_counted_without_a_network(self, llm: BaseLLM) -> None:
        assert llm.get_num_tokens("a longer text") > llm.get_num_tokens("a") > 0
