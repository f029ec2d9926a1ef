"""What this process holds of a model whose weights are elsewhere: its tokenizer and limits.

Reads configuration files alone; no weights are loaded or downloaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import AutoConfig, GenerationConfig

from langgraph_switch.engines.models import eos_token_ids, load_tokenizer
from langgraph_switch.engines.tokenizer import HFTokenizer, Tokenizer

_UNLIMITED_CONTEXT = 2**31


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalTokenizer:
    """A model's tokenizer, and what goes with it."""

    source: str
    """Where it was read from."""
    tokenizer: Tokenizer
    vocab_size: int
    eos_token_ids: tuple[int, ...] = ()
    max_context_tokens: int = _UNLIMITED_CONTEXT
    """What the model was made for; its server may hold less."""


def prompt_text(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """Return ids as a text with its special tokens, for servers that take no ids."""
    if not isinstance(tokenizer, HFTokenizer):
        return tokenizer.decode(ids)
    text = tokenizer.backend.decode(
        list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
    )
    return str(text)


def load_local_tokenizer(source: str, *, revision: str | None = None) -> LocalTokenizer:
    """Load a model's tokenizer, its end-of-sequence tokens and its sizes.

    Raises:
        ModelLoadError: The source does not exist, is offline or gated, or has no tokenizer.
    """
    tokenizer = load_tokenizer(source, revision=revision)
    configs = _configs(source, revision)
    model = configs[-1] if configs else None
    return LocalTokenizer(
        source=source,
        tokenizer=tokenizer,
        vocab_size=getattr(model, "vocab_size", None) or _num_ids(tokenizer),
        eos_token_ids=eos_token_ids(*configs) if configs else _own_eos(tokenizer),
        max_context_tokens=getattr(model, "max_position_embeddings", None) or _UNLIMITED_CONTEXT,
    )


def _configs(source: str, revision: str | None) -> list[Any]:
    """Return the generation and the model configuration, where there are any.

    A folder may hold a tokenizer alone, and a server may know architectures that we do not.
    """
    found = []
    for kind in (GenerationConfig, AutoConfig):
        try:
            config: Any = kind.from_pretrained(source, revision=revision or "main")
        except (OSError, ValueError):
            continue
        found.append(config.get_text_config() if kind is AutoConfig else config)
    return found


def _num_ids(tokenizer: Tokenizer) -> int:
    return len(tokenizer.backend) if isinstance(tokenizer, HFTokenizer) else 2**31


def _own_eos(tokenizer: Tokenizer) -> tuple[int, ...]:
    eos = tokenizer.backend.eos_token_id if isinstance(tokenizer, HFTokenizer) else None
    return (eos,) if isinstance(eos, int) else ()
