"""Random models of a few thousand parameters, tokenizers made here, and slow references."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain, repeat
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

from langgraph_switch.config import SwitchConfig
from langgraph_switch.engines.base import GenerateRequest
from langgraph_switch.engines.byte_tokenizer import EOS_ID
from langgraph_switch.engines.models import SharedModel
from langgraph_switch.engines.scripted import ScriptedEngine
from langgraph_switch.engines.tokenizer import HFTokenizer
from langgraph_switch.engines.transformers_engine import TransformersEngine

TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
MULTILINGUAL = "naïve café 🙂🙃 日本語 слово the and of to in is that it was for on are as with "
_SHAPE: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "initializer_range": 0.3,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
CONFIGS = {
    "llama": lambda: LlamaConfig(**_SHAPE),
    "mistral with a sliding window": lambda: MistralConfig(**_SHAPE, sliding_window=16),
    "qwen2 with mixed layers": lambda: Qwen2Config(
        **_SHAPE, use_sliding_window=True, sliding_window=16, max_window_layers=1
    ),
    "gemma2, eager attention": lambda: Gemma2Config(
        **_SHAPE, head_dim=12, sliding_window=16, query_pre_attn_scalar=12
    ),
    "gpt2 with learned positions": lambda: GPT2Config(
        vocab_size=300,
        n_embd=48,
        n_layer=2,
        n_head=4,
        n_positions=2048,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=None,
    ),
}


def random_model(kind: str = "llama", seed: int = 0, **changes: Any) -> PreTrainedModel:
    """Return a model of random weights, large enough for greedy choices that are no near-ties."""
    torch.manual_seed(seed)
    config = CONFIGS[kind]()
    for name, value in changes.items():
        setattr(config, name, value)
    attention = "eager" if "eager" in kind else "sdpa"
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()


@cache
def byte_tokenizer(template: str | None = None) -> PreTrainedTokenizerFast:
    """Return a byte-level tokenizer without merges: every character may be cut."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {character: index for index, character in enumerate(alphabet)}
    return _fast(Tokenizer(models.BPE(vocab=vocabulary, merges=[])), template)


@cache
def merging_tokenizer(template: str | None = None) -> PreTrainedTokenizerFast:
    """Return a byte-level tokenizer with another vocabulary, trained on a few words."""
    backend = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=290,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.train_from_iterator([MULTILINGUAL * 50], trainer)
    return _fast(backend, template)


@cache
def metaspace_tokenizer() -> PreTrainedTokenizerFast:
    """Return a SentencePiece-like tokenizer: a text begins as if a blank stood before it."""
    backend = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))  # noqa: S106
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<unk>", "<|end|>", *(f"<0x{b:02X}>" for b in range(256))],
        show_progress=False,
    )
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    backend.train_from_iterator(["the cat and the dog sat in the house"] * 20, trainer)
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    described = json.loads(backend.to_str())
    # The trainer knows bytes only as special tokens; they are ordinary ones that have a text.
    described["added_tokens"] = described["added_tokens"][:2]
    backend = Tokenizer.from_str(json.dumps(described))
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>")  # noqa: S106


def _fast(backend: Tokenizer, template: str | None) -> PreTrainedTokenizerFast:
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>")  # noqa: S106
    tokenizer.chat_template = template
    return tokenizer


def make_engine(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast | None = None,
    *,
    kv_cache_bytes: int = 2**30,
    name: str = "tiny",
) -> TransformersEngine:
    """Return an engine over a model in memory."""
    wrapped = HFTokenizer(tokenizer or byte_tokenizer())
    shared = SharedModel(model, source=name, tokenizer=wrapped)
    return TransformersEngine(shared, wrapped, kv_cache_bytes=kv_cache_bytes)


def greedy(model: PreTrainedModel, prefix: Sequence[int], num_tokens: int) -> list[int]:
    """Return plain `generate()`'s greedy tokens: the reference of every fast path."""
    ids = torch.tensor([list(prefix)])
    with torch.inference_mode():
        output = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=num_tokens,
            do_sample=False,
            pad_token_id=0,
        )
    return output[0, len(prefix) :].tolist()


class Recital(ScriptedEngine):
    """Recites one text from wherever the response stands, byte by byte."""

    def __init__(self, text: str) -> None:
        super().__init__(lambda _: "")
        self._data = text.encode()

    def _tokens(self, text: str, request: GenerateRequest) -> Iterator[int]:
        del text
        done = list(request.prefix[request.response_start :])
        assert done == list(self._data[: len(done)])
        return chain(self._data[len(done) :], repeat(EOS_ID))


def switch_config(names: Sequence[str] = ("a", "b", "c"), **fields: Any) -> SwitchConfig:
    """Return a greedy switch over plain candidates; models come as engines."""
    plain = {"kind": "plain", "plain_template": "{query}"}
    defaults: dict[str, Any] = {
        "candidates": [{"name": name, "model": name, "prompt": plain} for name in names],
        "sampling": {"temperature": 0},
        "segment": {"max_tokens": 7},
        "max_tokens": 60,
        "seed": 1,
    }
    return SwitchConfig.from_dict(defaults | fields)
