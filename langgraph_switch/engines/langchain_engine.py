"""`LangChainEngine`: any LangChain LLM or chat model as a candidate, text in and text out.

A hosted model can take the floor in the middle of an answer. It knows nothing of tokens: what it
writes is cut into those of a tokenizer of ours, so that segments and limits have a measure.
Knows nothing of candidates or switching.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Literal, NoReturn

from langchain_core.language_models import BaseChatModel, BaseLLM
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, convert_to_messages
from pydantic import BaseModel, SecretStr

from langgraph_switch.engines.base import (
    Continuation,
    GenerateRequest,
    LabelRequest,
    OnToken,
    ScoresNoLabels,
    all_written,
)
from langgraph_switch.engines.byte_tokenizer import EOS_ID, ByteTokenizer
from langgraph_switch.engines.decoding import RowProgress
from langgraph_switch.engines.http_answers import is_passing_status, parse_retry_after_s
from langgraph_switch.engines.secrets import without_secrets
from langgraph_switch.engines.text_tokenizer import TextTokenizer
from langgraph_switch.engines.together import Tell, call_together
from langgraph_switch.engines.tokenizer import Tokenizer
from langgraph_switch.errors import (
    ConfigError,
    ContextLengthError,
    EngineError,
    InputError,
    SwitchError,
)

_GO_ON = (
    "Continue your last message exactly where it breaks off, even in the middle of a word. "
    "Write the continuation alone: repeat nothing, explain nothing."
)
# By name, since every client library has its own: builtins, requests, httpx, aiohttp, openai.
_PASSING_ERRORS = frozenset(
    {
        "APIConnectionError",
        "ClientConnectionError",
        "ConnectionError",
        "Timeout",
        "TimeoutError",
        "TransportError",
    }
)


class LangChainEngine(ScoresNoLabels):
    """Lets a LangChain model continue a response. Thread-safe, if the model is.

    What goes without, compared with a checkpoint of one's own: exact tokens (responses are handed
    over as text), seeds and temperature (the model's own settings hold), label probabilities (it
    cannot be the LM switcher's model), constrained decoding.

    Example:
        ```python
        hosted = LangChainEngine(ChatOpenAI(model="gpt-5"), name="gpt-5")
        llm = SwitchLLM(config=config, engines={"aligned": hosted})
        ```
    """

    lacks = (
        "exact tokens, seeds, the switch's temperature, label probabilities and constrained "
        "decoding; its segments are counted in tokens of a tokenizer that is not its own"
    )

    def __init__(
        self,
        llm: BaseLLM | BaseChatModel,
        *,
        name: str | None = None,
        tokenizer: Tokenizer | None = None,
        max_context_tokens: int = 2**20,
        max_in_flight: int = 64,
        goes_on: Literal["asked", "prefilled"] = "asked",
    ) -> None:
        """Stand before a model.

        Args:
            llm: The model, with its own settings (temperature, key, timeout). Switch its own
                retries off (`max_retries=0`): the switch tries again itself.
            name: What to call it in messages.
            tokenizer: Measures segments and limits, e.g. another candidate's; by default each
                byte is a token.
            max_context_tokens: Most tokens of prompt and response together.
            max_in_flight: Most calls of the model at the same time.
            goes_on: How a chat model continues a response that has begun: it is `asked` to in a
                message of its own, or `prefilled`: the conversation ends with the response so far,
                for services that continue an assistant's last message.

        Raises:
            ConfigError: `llm` is no LangChain LLM or chat model.
        """
        if not isinstance(llm, BaseLLM | BaseChatModel):
            raise ConfigError(
                f"A LangChain LLM or chat model is needed, not {type(llm).__name__}.",
                hint="pass the model itself, before `bind` or a chain",
            )
        self._llm = llm
        self._name = name or type(llm).__name__
        is_chat = isinstance(llm, BaseChatModel)
        self._tokenizer = TextTokenizer(tokenizer or ByteTokenizer(), reads_messages=is_chat)
        self._max_context_tokens = max_context_tokens
        self._max_in_flight = max_in_flight
        self._is_prefilled = goes_on == "prefilled"

    @property
    def name(self) -> str:
        """What to call the model in messages."""
        return self._name

    @property
    def tokenizer(self) -> Tokenizer:
        """Measures what the model writes; keeps prompts as text."""
        return self._tokenizer

    @property
    def vocab_size(self) -> int:
        """No limit: tokens are text to the model."""
        return 2**31

    @property
    def max_context_tokens(self) -> int:
        """Most tokens of prompt and response together."""
        return self._max_context_tokens

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """One that nobody writes: it stands for the end of what the model says."""
        return (EOS_ID,)

    def generate(
        self, requests: Sequence[GenerateRequest], on_token: OnToken | None = None
    ) -> list[Continuation]:
        """Let the model continue every response, side by side, streamed.

        Raises:
            ContextLengthError: A prefix and its new tokens exceed the context.
            InputError: A grammar is asked for, or the model refuses its input.
            BatchError: Only some of the requests failed.
            EngineError: The model failed.
        """
        for request in requests:
            self._check(request)
        calls = [self._call(index, request) for index, request in enumerate(requests)]
        return all_written(call_together(calls, on_token, max_threads=self._max_in_flight))

    def label_logprobs(self, requests: Sequence[LabelRequest]) -> NoReturn:
        """Refuse: the model tells nothing of probabilities.

        Raises:
            ConfigError: Always.
        """
        del requests
        raise ConfigError(
            f"{self._name!r} gives no label probabilities: it cannot be a switcher's model.",
            hint="give the switcher a checkpoint of its own",
        )

    def release(self, rows: Iterable[str]) -> None:
        """Forget nothing: nothing is remembered."""

    def _check(self, request: GenerateRequest) -> None:
        num_tokens = len(request.prefix) + request.max_new_tokens
        if num_tokens > self._max_context_tokens:
            raise ContextLengthError(
                self._name,
                num_tokens=num_tokens,
                max_tokens=self._max_context_tokens,
                hint="shorten the query, or lower max_tokens",
            )
        if request.grammar is not None:
            raise InputError(
                f"{self._name!r} cannot be held to a grammar.",
                hint="leave the grammar out, or let a checkpoint of your own be the anchor",
            )

    def _call(self, index: int, request: GenerateRequest) -> Callable[[Tell], Continuation]:
        return lambda tell: self._write(index, request, tell)

    def _write(self, index: int, request: GenerateRequest, tell: Tell) -> Continuation:
        progress = RowProgress(index, request, self._tokenizer, tell)
        pieces = self._pieces(request)
        ids = chain.from_iterable(self._tokenizer.encode(piece) for piece in pieces)
        for token_id in ids:
            progress.accept(token_id)
            if progress.is_finished:
                break
        pieces.close()
        written = progress.continuation(cached_tokens=0, prefill_tokens=len(request.prefix))
        return written if progress.is_finished else replace(written, finish_reason="eos")

    def _pieces(self, request: GenerateRequest) -> Generator[str, None, None]:
        """Yield what the model streams; its errors as ours."""
        deadline = None if request.timeout_s is None else time.monotonic() + request.timeout_s
        try:
            for piece in self._stream(request):
                yield piece
                if deadline is not None and time.monotonic() > deadline:
                    raise TimeoutError(f"no end after {request.timeout_s:g} s")  # noqa: TRY301
        except (ConfigError, InputError):
            raise
        except Exception as err:  # noqa: BLE001 - every service has errors of its own
            raise self._failure(err) from _shown_cause(err, self._secrets())

    def _stream(self, request: GenerateRequest) -> Iterator[str]:
        prompt = self._tokenizer.prompt(request.prefix[: request.response_start])
        response = self._tokenizer.decode(request.prefix[request.response_start :])
        if isinstance(self._llm, BaseLLM):
            return self._llm.stream(f"{prompt}{response}")
        messages = (
            [HumanMessage(prompt)] if isinstance(prompt, str) else convert_to_messages(prompt)
        )
        chunks = self._llm.stream([*messages, *self._begun(response)])
        return (str(chunk.text) for chunk in chunks)

    def _begun(self, response: str) -> list[BaseMessage]:
        if not response:
            return []
        answer = AIMessage(response)
        return [answer] if self._is_prefilled else [answer, HumanMessage(_GO_ON)]

    def _failure(self, err: Exception) -> EngineError:
        status, headers = _response_of(err)
        if isinstance(err, SwitchError):
            is_passing = err.retryable
        elif status is not None:
            is_passing = is_passing_status(status)
        else:
            is_passing = any(_is_passing(one) for one in _causes(err))
        said = without_secrets(str(err), self._secrets())
        return EngineError(
            f"{self._name!r} failed: {type(err).__name__}: {said}",
            retryable=is_passing,
            retry_after_s=parse_retry_after_s(headers.get("retry-after")),
        )

    def _secrets(self) -> list[str]:
        return _secrets_in(self._llm)


def _is_passing(err: BaseException) -> bool:
    return not _PASSING_ERRORS.isdisjoint(kind.__name__ for kind in type(err).__mro__)


def _response_of(err: Exception) -> tuple[int | None, Mapping[str, str]]:
    """Return status and headers of what a service answered, where its error carries them."""
    response = getattr(err, "response", None)
    status = getattr(err, "status_code", getattr(response, "status_code", None))
    headers = getattr(response, "headers", {})
    return (status if isinstance(status, int) else None), headers


def _secrets_in(model: BaseModel) -> list[str]:
    values = model.__dict__.values()
    return [one.get_secret_value() for one in values if isinstance(one, SecretStr)]


def _causes(err: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = err
    while found is not None:
        yield found
        found = found.__cause__ or found.__context__


def _shown_cause(err: Exception, secrets: Sequence[str]) -> Exception | None:
    """Return an error to be shown as a cause, unless it, or what caused it, quotes a secret."""
    texts = [str(one) for one in _causes(err)]
    return err if all(without_secrets(text, secrets) == text for text in texts) else None
