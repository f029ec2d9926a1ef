"""What lands in the package: half-precision weights, tokenizer, and `switch.json`.

This module does not know how the weights came about.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from transformers import GenerationConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from langgraph_switch.config import (
    GREEDY,
    CandidateSpec,
    LMSwitcherSpec,
    PromptSpec,
    SegmentSpec,
    SwitchConfig,
)
from recipes.tiny_family.tokenizer import CHAT_TEMPLATE, EOS_ID, PAD_ID

NAMES = ("pretrained", "finetuned", "aligned")
SWITCHER = "switcher"
PLAIN_TEMPLATE = "{query}\n"
SEGMENT_TOKENS = 6
MAX_TOKENS = 96


def save_checkpoint(
    folder: Path, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> LlamaForCausalLM:
    """Write a checkpoint and return it as it will be read: rounded to half precision."""
    rounded = copy.deepcopy(model).half()  # type: ignore[no-untyped-call]
    rounded.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        eos_token_id=EOS_ID, pad_token_id=PAD_ID
    )
    rounded.save_pretrained(folder)
    is_chat = folder.name in NAMES[1:]
    own = copy.deepcopy(tokenizer)
    own.chat_template = CHAT_TEMPLATE if is_chat else None
    own.save_pretrained(folder)
    return load_checkpoint(folder)


def load_checkpoint(folder: Path) -> LlamaForCausalLM:
    """Read a checkpoint in single precision."""
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.train(mode=False)
    return model


def save_switch(folder: Path) -> SwitchConfig:
    """Write the family's `switch.json` and return it."""
    plain = PromptSpec(kind="plain", plain_template=PLAIN_TEMPLATE)
    told = PromptSpec(tools="text")  # Its template knows of no tools.
    candidates = [
        CandidateSpec(name="pretrained", model="./pretrained", prompt=plain, eos="mask"),
        CandidateSpec(name="finetuned", model="./finetuned", eos="end_segment"),
        CandidateSpec(name="aligned", model="./aligned", prompt=told, eos="end_response"),
    ]
    config = SwitchConfig(
        candidates=tuple(candidates),
        switcher=LMSwitcherSpec(model=f"./{SWITCHER}", sampling=GREEDY),
        segment=SegmentSpec(max_tokens=SEGMENT_TOKENS),
        max_tokens=MAX_TOKENS,
        sampling=GREEDY,
        seed=0,
    )
    config.save(folder)
    return SwitchConfig.load(folder)
