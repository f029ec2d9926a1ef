"""In-process engines of tiny models, and the same models behind a stand-in server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from transformers import PreTrainedModel

from langgraph_switch.engine_specs import OpenAIEngineSpec
from langgraph_switch.engines.base import Engine, GenerateRequest
from langgraph_switch.engines.openai_engine import OpenAIEngine
from langgraph_switch.engines.remote_tokenizer import LocalTokenizer
from tests.remote.stand_in_server import StandInServer
from tests.tiny_models import byte_tokenizer, make_engine


def request(prefix: Sequence[int], row: str = "row", **fields: Any) -> GenerateRequest:
    defaults: dict[str, Any] = {"response_start": len(prefix), "max_new_tokens": 10}
    return GenerateRequest(row=row, prefix=list(prefix), **(defaults | fields))


def client(server: StandInServer, model: str = "tiny", **fields: Any) -> OpenAIEngine:
    """Return the engine of a model on a server; nothing but its tokenizer is here."""
    engine = server.engines.get(model) or next(iter(server.engines.values()))
    fields = {"base_url": server.base_url, "model": model} | fields
    return OpenAIEngine(OpenAIEngineSpec(**fields), local_tokenizer(engine))


def local_tokenizer(engine: Engine, **fields: Any) -> LocalTokenizer:
    known: dict[str, Any] = {
        "source": "local",
        "tokenizer": engine.tokenizer,
        "vocab_size": engine.vocab_size,
        "eos_token_ids": engine.eos_token_ids,
        "max_context_tokens": engine.max_context_tokens,
    }
    return LocalTokenizer(**(known | fields))


@contextmanager
def served(
    model: PreTrainedModel, tokenizer: Any = None, **options: Any
) -> Iterator[tuple[StandInServer, OpenAIEngine]]:
    """Serve a model as "tiny"."""
    engine = make_engine(model, tokenizer or byte_tokenizer())
    with StandInServer({"tiny": engine}, **options) as server:
        yield server, client(server)
