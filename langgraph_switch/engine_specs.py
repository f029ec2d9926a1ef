"""What a candidate's engine is, where it is not a model in this process.

Frozen values of `switch.json`. A new kind of engine is one more class in the union `EngineSpec`.
Secrets are named, never held: only the name of an environment variable is kept. This module does
not know torch, clients, or how engines are made.
"""

from __future__ import annotations

from typing import Any, Literal, Self, TypeAlias
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator


class _Spec(BaseModel):
    # Input is hidden in errors: a key that was put into the wrong place must not be shown.
    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True
    )


class OpenAIEngineSpec(_Spec):
    """A server that speaks OpenAI's `/v1/completions`, as vLLM does."""

    kind: Literal["openai"] = "openai"
    base_url: str
    """Where it is, with the path: `http://host:8000/v1`."""
    replica_urls: tuple[str, ...] = ()
    """Where more servers with the same model are. Each response stays on one, for its prefix
    cache; another one goes on where that fails."""
    model: str = Field(min_length=1)
    """The model's name on the server; an adapter's, where it serves adapters."""
    api_key_env: str | None = Field(default=None, pattern=r"^[A-Z_][A-Z0-9_]{0,99}$")
    """Name of the environment variable that holds the key, in capitals; never the key itself."""
    timeout_s: float = Field(default=120.0, gt=0)
    """Longest silence of the server, from the request to its first byte and between two."""
    connect_timeout_s: float = Field(default=5.0, gt=0)
    """Longest wait for a connection."""
    max_in_flight: int = Field(default=64, ge=1)
    """Requests that are sent to this server at the same time; more wait here."""

    @field_validator("base_url")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        return _address(value)

    @field_validator("replica_urls")
    @classmethod
    def _are_addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_address(one) for one in value)

    @property
    def servers(self) -> tuple[Self, ...]:
        """One description per server that has the model."""
        urls = (self.base_url, *self.replica_urls)
        return tuple(self.model_copy(update={"base_url": url, "replica_urls": ()}) for url in urls)


def _address(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must be an address such as http://host:8000/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("must hold no name, password or query: use api_key_env")
    return value.rstrip("/")


EngineSpec: TypeAlias = OpenAIEngineSpec
"""Every kind of engine besides the in-process one, told apart by `kind`: with a second one, make
it `Annotated[OpenAIEngineSpec | ..., Field(discriminator="kind")]`."""


def with_tokenizer_source(data: Any) -> Any:
    """Return a candidate's or switcher's fields, `model` taken from its engine if it has none.

    `model` then names the tokenizer alone: a server has the weights.
    """
    if not isinstance(data, dict) or data.get("model") or not data.get("engine"):
        return data
    engine = data["engine"]
    name = engine.get("model") if isinstance(engine, dict) else engine.model
    return data | {"model": name} if name else data
