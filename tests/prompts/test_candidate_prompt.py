from __future__ import annotations

import warnings
from typing import Any

import pytest
from tiny_models import TEMPLATE, byte_tokenizer, merging_tokenizer, switch_config

from langgraph_switch import Message, Trace
from langgraph_switch.config import CandidateSpec
from langgraph_switch.engines.tokenizer import HFTokenizer
from langgraph_switch.errors import ConfigError, InputError
from langgraph_switch.prompts.candidate import CandidatePrompt, SwitchWarning
from langgraph_switch.queries import trace_from_query

WITH_TEMPLATE = HFTokenizer(byte_tokenizer(TEMPLATE))
WITHOUT = HFTokenizer(byte_tokenizer())


def prompt(tokenizer: HFTokenizer = WITH_TEMPLATE, **fields: Any) -> CandidatePrompt:
    return CandidatePrompt(CandidateSpec(**({"name": "x", "model": "m"} | fields)), tokenizer)


def trace(*messages: tuple[str, str]) -> Trace:
    given = [{"role": role, "content": content} for role, content in messages]
    return trace_from_query({"messages": given}, switch_config())


def text(prompt: CandidatePrompt, *messages: tuple[str, str]) -> str:
    return WITHOUT.decode(prompt.encode(trace(*messages)))


@pytest.mark.parametrize(
    ("fields", "tokenizer", "kind"),
    [
        ({"name": "pretrained"}, WITH_TEMPLATE, "plain"),
        ({"role": "pretrained"}, WITH_TEMPLATE, "plain"),
        ({"name": "aligned"}, WITH_TEMPLATE, "chat"),
        ({"role": "finetuned"}, WITH_TEMPLATE, "chat"),
        ({}, WITH_TEMPLATE, "chat"),
        ({"role": "pretrained", "prompt": {"kind": "chat"}}, WITH_TEMPLATE, "chat"),
        ({"role": "aligned", "prompt": {"kind": "plain"}}, WITH_TEMPLATE, "plain"),
        ({"role": "pretrained"}, WITHOUT, "plain"),
        ({"role": "aligned", "prompt": {"kind": "plain"}}, WITHOUT, "plain"),
    ],
)
def test_the_role_decides_how_a_candidate_reads_unless_it_is_told(
    fields: dict[str, Any], tokenizer: HFTokenizer, kind: str
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert prompt(tokenizer, **fields).kind == kind


def test_a_tuned_candidate_without_a_template_reads_plain_text_with_a_warning() -> None:
    with pytest.warns(SwitchWarning, match="'x' has no chat template.*prompt.kind to 'plain'"):
        assert prompt(WITHOUT, role="aligned").kind == "plain"


def test_a_chat_without_a_template_is_refused() -> None:
    with pytest.raises(ConfigError, match="'x' is to read a chat"):
        prompt(WITHOUT, prompt={"kind": "chat"})


def test_a_plain_candidate_reads_its_template_once_filled() -> None:
    plain = prompt(prompt={"kind": "plain", "plain_template": "Q: {query}\nA:"})
    assert text(plain, ("user", "why {query}?")) == "Q: why {query}?\nA:"
    whole = text(plain, ("system", "Be brief."), ("user", "Why?"))
    assert whole == "Q: System: Be brief.\n\nUser: Why?\nA:"


def test_a_chat_candidate_reads_its_template_up_to_the_opened_turn() -> None:
    chat = prompt()
    assert text(chat, ("user", " hi \n")) == "<|user|> hi \n\n<|assistant|>"
    with_system = prompt(prompt={"system": "Be kind."})
    assert text(with_system, ("user", "hi")) == "<|system|>Be kind.\n<|user|>hi\n<|assistant|>"
    own = text(with_system, ("system", "Be brief."), ("user", "hi"))
    assert own == "<|system|>Be brief.\n<|user|>hi\n<|assistant|>"


def test_a_template_that_refuses_the_messages_is_an_input_error() -> None:
    strict = (
        TEMPLATE + "{% if messages[0].role == 'system' %}{{ raise_exception('No!') }}{% endif %}"
    )
    with pytest.raises(InputError, match="No!"):
        text(prompt(HFTokenizer(byte_tokenizer(strict))), ("system", "x"), ("user", "y"))


def test_prompts_that_render_alike_have_equal_signatures_and_others_not() -> None:
    variants = [
        prompt(),
        prompt(prompt={"system": "Be kind."}),
        prompt(role="pretrained"),
        prompt(prompt={"kind": "plain", "plain_template": "{query}"}),
    ]
    assert len({one.signature for one in variants}) == len(variants)
    assert prompt(name="other").signature == prompt().signature


def test_special_tokens_of_the_template_are_tokens() -> None:
    template = "{{ messages[0].content }}<|end|>{% if add_generation_prompt %}>{% endif %}"
    tokenizer = merging_tokenizer(template)
    ids = CandidatePrompt(CandidateSpec(name="x", model="m"), HFTokenizer(tokenizer)).encode(
        trace(("user", "the cat"))
    )
    assert ids.count(tokenizer.eos_token_id) == 1


def test_messages_are_values() -> None:
    assert trace(("user", "hi")).messages == (Message(role="user", content="hi"),)
