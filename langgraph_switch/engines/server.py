"""A connection to one `/v1/completions` server, shared by all models on it, and what it can do.

Lives in the background loop. Retries nothing: that is its callers' decision. Knows nothing of
rows, stop rules or text.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from langgraph_switch.engine_specs import OpenAIEngineSpec
from langgraph_switch.engines.completions import PROBE_TEXT, ServerFacts
from langgraph_switch.engines.tokenizer import Tokenizer
from langgraph_switch.errors import ConfigError, EngineError, MissingExtraError

try:
    import openai
    from openai import AsyncStream
    from openai.types import Completion
except ImportError as err:
    raise MissingExtraError("An OpenAI-compatible server", extra="openai") from err

from langgraph_switch.engines.remote_errors import server_failures, status_of

_NO_KEY = "EMPTY"  # Otherwise the client would send OPENAI_API_KEY to whatever server this is.
_REFUSED = frozenset({400, 404, 405, 415, 422})
_MAX_SPECIAL_TOKENS = 2  # BOS and EOS, which a server may put around a text.
_servers: dict[tuple[int, OpenAIEngineSpec], Server] = {}


class Server:
    """One client, with a limit of requests in flight."""

    def __init__(self, spec: OpenAIEngineSpec) -> None:
        """Prepare to connect; nothing is sent.

        Raises:
            ConfigError: The environment variable of the key is not set.
        """
        self.spec = spec
        self.key = check_key(spec)
        self._free = asyncio.Semaphore(spec.max_in_flight)
        self._client = openai.AsyncOpenAI(
            base_url=spec.base_url,
            api_key=self.key or _NO_KEY,
            max_retries=0,
            default_headers={
                "OpenAI-Organization": openai.Omit(),  # type: ignore[dict-item]
                "OpenAI-Project": openai.Omit(),  # type: ignore[dict-item]
            },
            http_client=openai.DefaultAsyncHttpxClient(
                timeout=openai.Timeout(spec.timeout_s, connect=spec.connect_timeout_s, pool=None),
                limits=_limits(spec.max_in_flight),
            ),
        )

    async def complete(self, model: str, prompt: str | list[int], **fields: Any) -> Completion:
        """Return a whole answer.

        Raises:
            EngineError: There is none.
            ConfigError: It is no answer of such a server.
        """
        async with self._turn(model):
            found = await self._client.completions.create(model=model, prompt=prompt, **fields)
        if not isinstance(found, Completion) or not found.choices:
            raise ConfigError(
                f"{self.spec.base_url} answered with something else than completions.",
                hint="correct engine.base_url (vLLM's ends in /v1)",
            )
        return found

    @asynccontextmanager
    async def stream(
        self, model: str, prompt: str | list[int], **fields: Any
    ) -> AsyncIterator[AsyncStream[Completion]]:
        """Yield an answer's events; the server stops working when the context is left.

        Raises:
            EngineError: The connection failed, now or later.
        """
        async with self._turn(model):
            options = {"include_usage": True}
            events = await self._client.completions.create(
                model=model, prompt=prompt, stream=True, stream_options=options, **fields
            )  # type: ignore[call-overload]
            async with events:
                yield events

    async def models(self, model: str) -> list[dict[str, Any]] | None:
        """Return what the server says of its models; None if it says nothing."""
        try:
            async with self._turn(model):
                answer: Any = await self._client.get("/models", cast_to=object)
        except EngineError as err:
            if status_of(err) in _REFUSED:
                return None
            raise
        if not isinstance(answer, dict) or not isinstance(answer.get("data"), list):
            return None
        return [one for one in answer["data"] if isinstance(one, dict)]

    async def tokenize(self, model: str, text: str) -> list[int] | None:
        """Return a text's tokens (vLLM's `/tokenize`); None if the server has no such thing."""
        url = f"{self.spec.base_url.removesuffix('/v1')}/tokenize"
        body = {"model": model, "prompt": text, "add_special_tokens": False}
        try:
            async with self._turn(model):
                answer: Any = await self._client.post(url, cast_to=object, body=body)
        except EngineError as err:
            if status_of(err) in _REFUSED:
                return None
            raise
        tokens = answer.get("tokens") if isinstance(answer, dict) else None
        return tokens if isinstance(tokens, list) else None

    @asynccontextmanager
    async def _turn(self, model: str) -> AsyncIterator[None]:
        async with self._free:
            with server_failures(self.spec.base_url, model, key=self.key):
                yield


def shared_server(spec: OpenAIEngineSpec) -> Server:
    """Return the connection of a spec; models of one server share it. Call in the loop.

    Raises:
        ConfigError: The environment variable of the key is not set.
    """
    key = (os.getpid(), spec.model_copy(update={"model": ""}))
    if key not in _servers:
        _servers[key] = Server(spec)
    return _servers[key]


async def probe(server: Server, model: str, tokenizer: Tokenizer, source: str) -> ServerFacts:
    """Find out what a server can do, by the effect of a few requests of one token.

    Raises:
        ConfigError: It is no such server, lacks the model, or its model reads other tokens.
        EngineError: It cannot be reached, or refuses the key.
    """
    max_model_len = await _model_length(server, model)
    ids = list(tokenizer.encode_chat(PROBE_TEXT))
    facts = await _accepted_prompt(server, model, ids, max_model_len)
    await _check_tokenizer(server, model, tokenizer, facts, source)
    return facts


async def _model_length(server: Server, model: str) -> int | None:
    models = await server.models(model)
    if models is None:
        return None
    for one in models:
        if one.get("id") == model:
            length = one.get("max_model_len")
            return length if isinstance(length, int) else None
    known = ", ".join(repr(one.get("id")) for one in models) or "none"
    raise ConfigError(
        f"{server.spec.base_url} serves no model {model!r}; it serves {known}.",
        hint="correct engine.model or engine.base_url, or start the server with "
        f"--served-model-name {model}",
    )


async def _accepted_prompt(
    server: Server, model: str, ids: list[int], max_model_len: int | None
) -> ServerFacts:
    """Return which form of a request is answered: tokens before text, vLLM's fields before none."""
    refusal: EngineError | None = None
    for takes_tokens, takes_extras in ((True, True), (True, False), (False, True), (False, False)):
        extras = {"return_token_ids": True, "add_special_tokens": False, "ignore_eos": True}
        try:
            found = await server.complete(
                model,
                ids if takes_tokens else PROBE_TEXT,
                max_tokens=1,
                temperature=0.0,
                extra_body=extras if takes_extras else None,
            )
        except EngineError as err:
            if status_of(err) not in _REFUSED:
                raise
            refusal = refusal or err
            continue
        extra = found.choices[0].model_extra or {}
        return ServerFacts(
            max_model_len=max_model_len,
            takes_token_prompts=takes_tokens,
            takes_extras=takes_extras,
            returns_token_ids=isinstance(extra.get("token_ids"), list),
        )
    raise ConfigError(
        f"{server.spec.base_url} does not answer completion requests: "
        f"{refusal.message if refusal else ''}",
        hint="correct engine.base_url (vLLM's ends in /v1); a server without /v1/completions "
        "cannot continue a text",
    ) from refusal


async def _check_tokenizer(
    server: Server, model: str, tokenizer: Tokenizer, facts: ServerFacts, source: str
) -> None:
    """Refuse a server whose model reads a text as other tokens than we do."""
    expected = list(tokenizer.encode_chat(PROBE_TEXT))
    found = await server.tokenize(model, PROBE_TEXT)
    num_found = len(found) if found is not None else None
    if found is None:
        extras = {"return_token_ids": True, "add_special_tokens": False}
        answer = await server.complete(
            model,
            PROBE_TEXT,
            max_tokens=1,
            temperature=0.0,
            extra_body=extras if facts.takes_extras else None,
        )
        found = (answer.choices[0].model_extra or {}).get("prompt_token_ids")
        num_found = answer.usage.prompt_tokens if answer.usage else None
    is_same = found == expected
    if found is None:  # All that is known is how many there were.
        is_same = num_found is None or 0 <= num_found - len(expected) <= _MAX_SPECIAL_TOKENS
    if not is_same:
        raise ConfigError(
            f"{server.spec.base_url} serves another model as {model!r} than {source!r}: their "
            f"tokenizers differ ({num_found} tokens for a test text, {len(expected)} here).",
            hint="name the served checkpoint in `model`, or correct engine.base_url and "
            "engine.model",
        )


def check_key(spec: OpenAIEngineSpec) -> str | None:
    """Return a server's key, if it has one.

    Raises:
        ConfigError: The environment variable that should hold it is not set.
    """
    if spec.api_key_env is None:
        return None
    key = os.environ.get(spec.api_key_env)
    if not key:
        raise ConfigError(
            f"The environment variable {spec.api_key_env!r} is not set; it should hold the key of "
            f"{spec.base_url}.",
            hint=f"export {spec.api_key_env}=...",
        )
    return key


def _limits(max_in_flight: int) -> Any:
    import httpx2  # noqa: PLC0415 - the client's own HTTP library

    return httpx2.Limits(
        max_connections=max_in_flight + 4, max_keepalive_connections=max_in_flight + 4
    )
