"""Random-weight llamas, a tokenizer and prompts, all made on the spot: nothing is downloaded.

Knows nothing of what is measured.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import product
from string import ascii_lowercase, ascii_uppercase

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

EOS = "<|endoftext|>"
_ENDINGS = "3456789.,;"
_ENGLISH = (
    " <model begins> <model ends> Which model should generate the next segment?"
    " Please respond with a number from to The answer is model"
)
_CONTEXT_TOKENS = 8192


@dataclass(frozen=True, slots=True)
class Size:
    """The shape of a llama."""

    name: str
    num_layers: int
    hidden: int
    intermediate: int
    num_heads: int


SIZES = {
    "5M": Size("5M", num_layers=4, hidden=256, intermediate=688, num_heads=4),
    "90M": Size("90M", num_layers=12, hidden=768, intermediate=2048, num_heads=12),
}


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer of about 8,000 tokens of mostly three characters.

    A merged token is lower case + upper case + ending, three sets of characters that share none:
    so the text of random tokens is read back as (nearly) the same tokens, as with trained
    vocabularies and real text. The words that a switcher reads are tokens too, and all bytes.
    """
    byte_chars = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {char: index for index, char in enumerate(byte_chars)}
    merges: list[tuple[str, str]] = list(product(ascii_lowercase, ascii_uppercase))
    merges += [(f"{a}{b}", c) for (a, b), c in product(list(merges), _ENDINGS)]
    blank = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(" ")[0][0]
    words = [f"{blank}{word}" for word in _ENGLISH.split()]
    merges += dict.fromkeys(
        (word[:end], word[end]) for word in words for end in range(1, len(word))
    )
    for left, right in merges:
        vocab[left + right] = len(vocab)
    backend = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend, eos_token=EOS, pad_token=EOS, padding_side="left"
    )


def make_model(size: Size, tokenizer: PreTrainedTokenizerFast, *, seed: int) -> PreTrainedModel:
    """Return a llama with random weights in float32."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.hidden,
        intermediate_size=size.intermediate,
        num_hidden_layers=size.num_layers,
        num_attention_heads=size.num_heads,
        num_key_value_heads=size.num_heads,
        max_position_embeddings=_CONTEXT_TOKENS,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    model.eval()  # type: ignore[no-untyped-call]
    return model


def num_parameters(model: torch.nn.Module) -> int:
    """Return the number of weights, shared ones once."""
    return sum(parameter.numel() for parameter in model.parameters())


def make_prompts(tokenizer: PreTrainedTokenizerFast, count: int, *, seed: int) -> list[str]:
    """Return random texts of 70 to 90 tokens, one character in ten a blank."""
    rng = random.Random(seed)  # noqa: S311 - no secret
    words = sorted(text for text in tokenizer.get_vocab() if len(text) == 3 and text.isascii())  # noqa: PLR2004
    return [
        "".join(rng.choice(words) if rng.random() > 0.1 else " " for _ in range(length))  # noqa: PLR2004
        for length in (rng.randint(70, 90) for _ in range(count))
    ]
