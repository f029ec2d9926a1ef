"""How many bytes keys and values take: what an engine allocates, and what a plan foretells.

Knows nothing of torch, so that a plan needs no weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BLOCK_TOKENS = 32
"""A row's memory grows by so many tokens at a time."""


def row_capacity(num_tokens: int) -> int:
    """Return how many tokens a row of that many has room for."""
    return -(-num_tokens // BLOCK_TOKENS) * BLOCK_TOKENS


def kv_bytes_per_token(config: Mapping[str, Any], *, element_bytes: int) -> int:
    """Return the bytes of one token's keys and values.

    Args:
        config: A model's `config.json`.
        element_bytes: Bytes of one number, as the model computes it.
    """
    text = config.get("text_config") or config
    layers = int(text.get("num_hidden_layers") or text.get("n_layer") or 0)
    heads = int(text.get("num_attention_heads") or text.get("n_head") or 1)
    width = int(text.get("hidden_size") or text.get("n_embd") or 0)
    kv_heads = int(text.get("num_key_value_heads") or heads)
    head_width = int(text.get("head_dim") or width // heads)
    return 2 * layers * kv_heads * head_width * element_bytes
