"""One byte-level BPE for the whole family: trained on its text, exact for any other.

This module does not know models.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from recipes.tiny_family.corpus import (
    STORY_WORDS,
    alignment_chats,
    finetuning_chats,
    pretraining_text,
)
from recipes.tiny_family.world import World

EOS, PAD, USER, ASSISTANT, SYSTEM = (
    "<|end|>",
    "<|pad|>",
    "<|user|>",
    "<|assistant|>",
    "<|system|>",
)
VOCABULARY = 1440
EOS_ID, PAD_ID = 0, 1
MAX_CONTEXT_TOKENS = 1024
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] not in ['system', 'user', 'assistant'] -%}"
    "{{ raise_exception('roles are system, user and assistant') }}"
    "{%- endif -%}"
    "{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{%- if message['role'] == 'assistant' -%}{{ eos_token }}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|assistant|>' }}{%- endif -%}"
)
_SWITCHER_WORDS = (
    "{q} <model {i} begins> {a} <model {i} ends> Which model should generate the next segment? "
    "Please respond with a number from 0 to 2. The answer is model "
)


def _sample(seed: int, world: World) -> Iterator[str]:
    """Yield a sample of all text, with every word of the world often enough to become a token."""
    yield from islice(pretraining_text(seed, world), 6000)
    for stage in (finetuning_chats, alignment_chats):
        for chat in islice(stage(seed, world), 3000):
            yield chat.query
            yield chat.response
            yield _SWITCHER_WORDS.format(q=chat.query, a=chat.response, i=len(chat.query) % 3)
    for entity in world.entities:
        yield f" {entity.singular} {entity.plural}" * 600
    for sentence in STORY_WORDS:
        yield f" {sentence}".replace("{}", "legs") * 300
    for number in range(101):
        yield f"{number}\n {number}\n" * 300


def train_tokenizer(seed: int, world: World) -> PreTrainedTokenizerFast:
    """Return the family's tokenizer, without a chat template."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[EOS, PAD, USER, ASSISTANT, SYSTEM],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(_sample(seed, world), trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=core,
        eos_token=EOS,
        pad_token=PAD,
        model_max_length=MAX_CONTEXT_TOKENS,
        clean_up_tokenization_spaces=False,
    )


def encode(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """Return the token ids of plain text."""
    return [int(token) for token in tokenizer.encode(text, add_special_tokens=False)]


def decode(tokenizer: PreTrainedTokenizerFast, token_ids: Iterable[int]) -> str:
    """Return the text of token ids."""
    return str(tokenizer.decode(list(token_ids)))


def multi_token_words(tokenizer: PreTrainedTokenizerFast, words: Iterable[str]) -> list[str]:
    """Return the words that are not one token after a space."""
    return [w for w in words if len(encode(tokenizer, f" {w}")) > 1]
