from __future__ import annotations

import time
import traceback
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel, BaseLLM
from langchain_core.language_models.fake import FakeListLLM, FakeStreamingListLLM
from langchain_core.language_models.fake_chat_models import (
    FakeListChatModel,
    GenericFakeChatModel,
)
from langchain_core.language_models.llms import LLM
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult, GenerationChunk
from pydantic import Field, SecretStr
from tiny_models import Recital, make_engine, merging_tokenizer, random_model, switch_config

from langgraph_switch import ChatSwitch, CheckpointLLM, SwitchLLM, Trace
from langgraph_switch.config import SwitchConfig
from langgraph_switch.engines.base import (
    BatchError,
    Engine,
    GenerateRequest,
    LabelRequest,
    NewToken,
)
from langgraph_switch.engines.byte_tokenizer import ByteTokenizer
from langgraph_switch.engines.langchain_engine import LangChainEngine
from langgraph_switch.engines.secrets import without_secrets
from langgraph_switch.engines.text_tokenizer import TextTokenizer
from langgraph_switch.engines.tokenizer import HFTokenizer
from langgraph_switch.errors import ConfigError, EngineError, GenerationError, InputError
from langgraph_switch.prompts.candidate import SwitchWarning
from langgraph_switch.trace import Message, ToolCall

TEXT = "naïve 🙂 日本語 and so on, until all of it has been said at last"
KEY = "sk-verysecret0123456789"
pytestmark = pytest.mark.filterwarnings("ignore::langgraph_switch.prompts.candidate.SwitchWarning")


class Reciting(LLM):
    """Goes on with a text from wherever the prompt ends, a few characters at a time."""

    text: str
    prompts: list[str] = Field(default_factory=list)
    fails_after: int | None = None
    error: Any = None
    api_key: SecretStr | None = None

    @property
    def _llm_type(self) -> str:
        return "reciting"

    def _call(self, prompt: str, *args: Any, **kwargs: Any) -> str:
        del args, kwargs
        _, _, said = prompt.partition("\n")
        assert self.text.startswith(said)
        return self.text[len(said) :]

    def _stream(self, prompt: str, *args: Any, **kwargs: Any) -> Iterator[GenerationChunk]:
        self.prompts.append(prompt)
        text = self._call(prompt, *args, **kwargs)
        for start in range(0, len(text), 3):
            if self.fails_after is not None and start >= self.fails_after:
                raise self.error
            yield GenerationChunk(text=text[start : start + 3])


class RecitingChat(BaseChatModel):
    """The same as a chat model; notes the conversations that it was given."""

    text: str
    asked: list[list[BaseMessage]] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "reciting-chat"

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        raise NotImplementedError

    def _stream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        del args, kwargs
        self.asked.append(messages)
        said = next((str(one.content) for one in reversed(messages) if one.type == "ai"), "")
        assert self.text.startswith(said)
        for character in self.text[len(said) :]:
            yield ChatGenerationChunk(message=AIMessageChunk(content=character))


def config(**fields: Any) -> SwitchConfig:
    plain = {"kind": "plain"}
    defaults: dict[str, Any] = {
        "candidates": [
            {"name": "own", "model": "own", "prompt": plain},
            {"name": "hosted", "model": "hosted"},
        ],
        "switcher": {"kind": "fixed", "order": ["own", "hosted"]},
        "max_tokens": 200,
        "anchor": {"first": False},
        "failover": {"initial_wait_s": 0},
    }
    return switch_config("ab", **(defaults | fields))


def request(engine: Engine, prompt: str, said: str = "", **fields: Any) -> GenerateRequest:
    head = engine.tokenizer.encode_document(prompt)
    return GenerateRequest(
        row="row",
        prefix=[*head, *engine.tokenizer.encode(said)],
        response_start=len(head),
        eos_token_ids=engine.eos_token_ids,
        **({"max_new_tokens": 1000} | fields),
    )


def streamed(llm: Any, query: str) -> str:
    return "".join(one if isinstance(one, str) else str(one.text) for one in llm.stream(query))


@pytest.mark.parametrize("size", [1, 7, 50])
def test_a_hosted_llm_takes_the_floor_in_mid_answer(size: int) -> None:
    hosted = Reciting(text=TEXT)
    engines: dict[str, Engine] = {"own": Recital(TEXT), "hosted": LangChainEngine(hosted)}
    llm = SwitchLLM(config=config(segment={"max_tokens": size}), engines=engines)
    assert llm.invoke("q") == streamed(llm, "q") == TEXT
    assert hosted.prompts[-1].startswith("q\n")
    assert len(hosted.prompts) >= 2


def test_different_tokenizers_hand_over_by_text() -> None:
    given = HFTokenizer(merging_tokenizer())
    hosted = LangChainEngine(Reciting(text=TEXT), tokenizer=given)
    llm = SwitchLLM(config=config(), engines={"own": Recital(TEXT), "hosted": hosted})
    [[generation]] = llm.generate(["q"]).generations
    trace = Trace.from_json((generation.generation_info or {})["trace"])
    assert trace.text == TEXT
    written = [one for one in trace.segments if one.speaker == "hosted" and one.text]
    assert all(one.tokenizer == given.fingerprint for one in written)
    assert any(len(one.text.encode()) > len(one.token_ids) for one in written), "real tokens"


def test_a_chat_model_reads_messages_and_is_asked_to_go_on() -> None:
    hosted = RecitingChat(text=TEXT)
    engines: dict[str, Engine] = {"own": Recital(TEXT), "hosted": LangChainEngine(hosted)}
    chat = ChatSwitch(config=config(), engines=engines)
    conversation = [("system", "Be brief."), ("human", "one"), ("ai", "two"), ("human", "three")]
    assert chat.invoke(conversation).content == TEXT
    first = hosted.asked[0]
    assert [one.type for one in first] == ["system", "human", "ai", "human", "ai", "human"]
    assert [one.content for one in first[:4]] == ["Be brief.", "one", "two", "three"]
    assert first[4].content == TEXT[: len(str(first[4].content))] != ""
    assert "exactly where it breaks off" in str(first[5].content)
    prefilled = LangChainEngine(hosted, goes_on="prefilled")
    chat = ChatSwitch(config=config(), engines=engines | {"hosted": prefilled})
    assert chat.invoke("q").content == TEXT
    assert hosted.asked[-1][-1].type == "ai"


@pytest.mark.parametrize(
    "llm",
    [
        FakeListLLM(responses=[TEXT]),
        FakeStreamingListLLM(responses=[TEXT]),
        FakeListChatModel(responses=[TEXT]),
        GenericFakeChatModel(messages=iter([AIMessage(TEXT)])),
    ],
)
def test_langchains_own_models_serve(llm: BaseLLM | BaseChatModel) -> None:
    engine = LangChainEngine(llm)
    told: list[NewToken] = []
    [written] = engine.generate([request(engine, "q")], lambda _, token: told.append(token))
    assert written.text == "".join(token.text for token in told) == TEXT
    assert written.finish_reason == "eos"


def test_limits_stop_strings_and_boundaries_hold() -> None:
    engine = LangChainEngine(Reciting(text=TEXT))
    [cut] = engine.generate([request(engine, "q\n", max_new_tokens=8)])
    assert (len(cut.token_ids), cut.text, cut.finish_reason) == (8, "naïve ", "length")
    [cut] = engine.generate([request(engine, "q\n", max_new_tokens=8, extra_tokens=8)])
    assert (cut.text, cut.finish_reason) == ("naïve 🙂", "length")
    [cut] = engine.generate([request(engine, "q\n", TEXT[:15], stop=("and so",))])
    assert (cut.text, cut.finish_reason) == (" so", "stop")


def test_our_own_models_can_be_hosted() -> None:
    hosted = CheckpointLLM(
        model="tiny", engine=make_engine(random_model()), max_tokens=40, sampling={"temperature": 0}
    )
    alone = hosted.invoke("hello\n")
    engine = LangChainEngine(hosted)
    [written] = engine.generate([request(engine, "hello\n")])
    assert written.text + written.pending_text == alone
    switch = SwitchLLM.embedded(seed=1)
    engines: dict[str, Engine] = {"own": Recital(TEXT), "hosted": LangChainEngine(switch)}
    outer = SwitchLLM(config=config(max_tokens=40), engines=engines)
    outer = outer.model_copy(update={"config": config(max_tokens=40, switcher={
        "kind": "fixed", "order": ["hosted"]})})  # fmt: skip
    assert outer.invoke("How many legs does a cat have?")
    assert streamed(outer, "How many legs does a cat have?")


async def test_many_calls_are_under_way_at_once_and_awaited() -> None:
    class Slow(Reciting):
        def _call(self, prompt: str, *args: Any, **kwargs: Any) -> str:
            time.sleep(0.2)
            return super()._call(prompt, *args, **kwargs)

    engine = LangChainEngine(Slow(text=TEXT))
    llm = SwitchLLM(
        config=config(switcher={"kind": "fixed", "order": ["hosted"]}, max_tokens=20),
        engines={"own": Recital(TEXT), "hosted": engine},
    )
    started = time.monotonic()
    assert len(await llm.abatch([f"q{i}" for i in range(10)])) == 10
    assert time.monotonic() - started < 10 * 0.2


@pytest.mark.parametrize(
    ("error", "is_passing", "retry_after_s"),
    [
        (ConnectionResetError("gone"), True, None),
        (TimeoutError("late"), True, None),
        (ValueError("what?"), False, None),
        ("status 429", True, 7.0),
        ("status 503", True, 7.0),
        ("status 401", False, 7.0),
    ],
)
def test_a_services_errors_are_told_apart(
    error: Any, is_passing: bool, retry_after_s: float | None
) -> None:
    class Response:
        headers = {"retry-after": "7"}  # noqa: RUF012
        status_code = int(str(error)[-3:]) if str(error).startswith("status") else 0

    class ServiceError(Exception):
        response = Response()

    raised = ServiceError("no") if isinstance(error, str) else error
    hosted = Reciting(text=TEXT, fails_after=6, error=raised)
    engine = LangChainEngine(hosted, name="host")
    told: list[str] = []
    with pytest.raises(EngineError, match="'host' failed") as caught:
        engine.generate([request(engine, "q\n")], lambda _, token: told.append(token.text))
    assert (caught.value.retryable, caught.value.retry_after_s) == (is_passing, retry_after_s)
    assert "".join(told) == TEXT[:6]


def test_one_failing_request_leaves_the_others_alone() -> None:
    class Picky(Reciting):
        def _call(self, prompt: str, *args: Any, **kwargs: Any) -> str:
            if "bad" in prompt:
                raise ConnectionResetError
            return super()._call(prompt, *args, **kwargs)

    engine = LangChainEngine(Picky(text=TEXT))
    with pytest.raises(BatchError) as caught:
        engine.generate([request(engine, one) for one in ("a\n", "bad\n", "c\n")])
    kinds = [isinstance(one, EngineError) for one in caught.value.outcomes]
    assert kinds == [False, True, False]


def test_a_hosted_model_that_fails_hands_the_floor_over() -> None:
    hosted = Reciting(text=TEXT, fails_after=3, error=ConnectionResetError("gone"))
    given = config(failover={"max_attempts": 1}, segment={"max_tokens": 12})
    llm = SwitchLLM(config=given, engines={"own": Recital(TEXT), "hosted": LangChainEngine(hosted)})
    assert streamed(llm, "q") == TEXT
    [[generation]] = llm.generate(["q"]).generations
    trace = Trace.from_json((generation.generation_info or {})["trace"])
    assert "failover" in {one.decided_by for one in trace.segments}


def test_a_slow_stream_is_broken_off_at_the_timeout() -> None:
    class Drop(Reciting):
        def _stream(self, prompt: str, *args: Any, **kwargs: Any) -> Iterator[GenerationChunk]:
            for chunk in super()._stream(prompt, *args, **kwargs):
                time.sleep(0.05)
                yield chunk

    engine = LangChainEngine(Drop(text=TEXT * 50))
    with pytest.raises(EngineError, match=r"no end after 0\.2 s") as caught:
        engine.generate([request(engine, "q\n", timeout_s=0.2)])
    assert caught.value.retryable


def test_keys_are_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    said = f"Incorrect API key provided: {KEY}. Also tok_other_9 and Bearer abc.def"
    hosted = Reciting(
        text=TEXT, fails_after=0, error=ValueError(said), api_key=SecretStr("tok_other_9")
    )
    llm = SwitchLLM(
        config=config(switcher={"kind": "fixed", "order": ["hosted"]}, anchor={
            "candidate": "hosted"}, failover={"enabled": False}),
        engines={"own": Recital(TEXT), "hosted": LangChainEngine(hosted)},
    )  # fmt: skip
    with pytest.raises(GenerationError) as caught:
        llm.invoke("q")
    shown = "".join(traceback.format_exception(caught.value))
    shown += caplog.text + repr(llm) + str(llm._identifying_params) + str(caught.value.traces)
    for secret in (KEY, "tok_other_9", "abc.def"):
        assert secret not in shown
    assert "Incorrect API key provided: [secret]" in shown


def test_secrets_are_hidden_and_words_are_not() -> None:
    text = "http://user:pw@host/v1 with key-0123456789 and Bearer xyz; api keys, sketches, key: a"
    assert without_secrets(text, ["", "xyz"]) == (
        "http://[secret]@host/v1 with [secret] and Bearer [secret] api keys, sketches, key: a"
    )


def test_what_is_lost_is_said_once_at_configuration() -> None:
    engines: dict[str, Engine] = {
        "own": Recital(TEXT),
        "hosted": LangChainEngine(RecitingChat(text=TEXT)),
    }
    with pytest.warns(SwitchWarning, match="'hosted' goes without exact tokens, seeds"):
        _ = SwitchLLM(config=config(), engines=engines).switch
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _ = SwitchLLM(config=config(), engines=engines).switch


def test_what_cannot_be_is_refused() -> None:
    engine = LangChainEngine(Reciting(text=TEXT), name="host")
    with pytest.raises(ConfigError, match="cannot be the switcher's"):
        _ = SwitchLLM(
            config=config(switcher={"kind": "lm", "candidate": "hosted"}),
            engines={"own": Recital(TEXT), "hosted": engine},
        ).switch
    with pytest.raises(ConfigError, match="no label probabilities"):
        engine.label_logprobs([LabelRequest(row="r", prefix=(1,), labels=((1,), (2,)))])
    with pytest.raises(InputError, match="grammar"):
        engine.generate([request(engine, "q", grammar='start: "a"')])
    with pytest.raises(InputError, match="holds 5"):
        LangChainEngine(Reciting(text=TEXT), max_context_tokens=5).generate([request(engine, "q")])
    with pytest.raises(ConfigError, match="chat model is needed, not str"):
        LangChainEngine("gpt-5")  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "a", "abcd", "\x00\x00", "naïve 🙂", "\ud800x", "x" * 999])
def test_prompts_come_back_as_they_were(text: str) -> None:
    tokenizer = TextTokenizer(ByteTokenizer(), reads_messages=True)
    assert tokenizer.prompt(tokenizer.encode_document(text)) == text
    call = ToolCall(id="1", name="add", arguments='{"a": 1}')
    messages = [
        Message(role="user", content=text),
        Message(role="assistant", content="", tool_calls=(call,)),
        Message(role="tool", content="2", tool_call_id="1"),
    ]
    found = tokenizer.prompt(tokenizer.encode_chat(tokenizer.render_chat(messages)))
    assert [one["content"] for one in found] == [text, "", "2"]  # type: ignore[index]
    assert found[1]["tool_calls"][0]["function"]["name"] == "add"  # type: ignore[index]
    assert tokenizer.decode([*tokenizer.encode_document("q"), *tokenizer.encode("r")]) == "r"
