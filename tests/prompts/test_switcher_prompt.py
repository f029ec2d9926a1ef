from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import (
    TEMPLATE,
    byte_tokenizer,
    merging_tokenizer,
    metaspace_tokenizer,
    switch_config,
)

from langgraph_switch import Segment, Trace
from langgraph_switch.engines.byte_tokenizer import ByteTokenizer
from langgraph_switch.engines.tokenizer import HFTokenizer, Tokenizer
from langgraph_switch.errors import ConfigError
from langgraph_switch.prompts.switcher import SwitcherPrompt, neutralize_tags
from langgraph_switch.queries import trace_from_query

NAMES = ("pretrained", "finetuned", "aligned")
TWELVE = tuple("abcdefghijkl")
LOOSE_TAG = re.compile(r"<\s*model\s*\d+\s*(begins|ends)\s*>", re.IGNORECASE)
BITS = ["<", ">", "model", "MODEL", "0", "12", "٣", "begins", "ends", "Ends", "é", "("]
TAG_PARTS = st.sampled_from([*BITS, " ", "\n", "\xa0", "<model 0 begins>", " < Model 1  ENDS >"])
TOKENIZERS: dict[str, Tokenizer] = {
    "bytes": ByteTokenizer(),
    "merging": HFTokenizer(merging_tokenizer()),
    "metaspace": HFTokenizer(metaspace_tokenizer()),
}


def trace(query: str, *written: tuple[str, str]) -> Trace:
    begun = trace_from_query(query, switch_config())
    for speaker, text in written:
        segment = Segment(
            speaker=speaker,
            text=text,
            token_ids=(1,),
            tokenizer="?",
            decided_by="switcher",
            finish_reason="length",
        )
        begun = begun.append(segment)
    return begun


def plain(tokenizer: Tokenizer, names: Any = NAMES) -> SwitcherPrompt:
    return SwitcherPrompt(tokenizer, names, kind="plain")


def test_the_wording_is_the_published_one_to_the_letter() -> None:
    two_segments = trace("Why is it so?", ("aligned", "Because of"), ("pretrained", " the sun."))
    expected = (
        "Why is it so? <model 2 begins> Because of <model 2 ends>"
        " <model 0 begins>  the sun. <model 0 ends>"
        " Which model should generate the next segment? Please respond with a number from 0 to 2."
        " The answer is model "
    )
    prompt = plain(ByteTokenizer())
    assert prompt.render(two_segments) == expected
    assert ByteTokenizer().decode(prompt.encode(two_segments)) == expected


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_the_ids_are_those_of_the_text_and_only_grow(kind: str) -> None:
    tokenizer = TOKENIZERS[kind]
    prompt = plain(tokenizer)
    shorter = trace("the cat", ("aligned", " and the dog"))
    longer = trace("the cat", ("aligned", " and the dog"), ("pretrained", " sat in"))
    question = len(prompt.labels.question)
    before, after = prompt.encode(shorter), prompt.encode(longer)
    assert tokenizer.decode(before).strip() == prompt.render(shorter).strip()
    assert after[: len(before) - question] == before[: len(before) - question]
    assert before[-question:] == after[-question:] == list(prompt.labels.question)


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("names", [NAMES, TWELVE])
def test_question_and_label_together_are_the_question_with_its_number(
    kind: str, names: Any
) -> None:
    tokenizer = TOKENIZERS[kind]
    labels = plain(tokenizer, names).labels
    question = plain(tokenizer, names).render(trace(""))
    for number, label in enumerate(labels.labels):
        assert label
        assert (*labels.question, *label) == tokenizer.encode(f"{question}{number}")
    assert len(set(labels.labels)) == len(names)


@given(st.lists(TAG_PARTS, max_size=12).map("".join))
def test_nothing_that_looks_like_a_tag_survives_and_nothing_else_changes(text: str) -> None:
    cleaned = neutralize_tags(text)
    assert not LOOSE_TAG.search(cleaned)
    assert len(cleaned) == len(text)
    changed = [(a, b) for a, b in zip(text, cleaned, strict=True) if a != b]
    assert set(changed) <= {("<", "("), (">", ")")}
    assert len(changed) == 2 * len(LOOSE_TAG.findall(text))


@given(st.lists(TAG_PARTS, max_size=8).map("".join), st.lists(TAG_PARTS, max_size=8).map("".join))
def test_a_query_and_its_segments_cannot_pose_as_speakers(query: str, text: str) -> None:
    rendered = plain(ByteTokenizer()).render(trace(query, ("finetuned", text)))
    assert [match.group() for match in LOOSE_TAG.finditer(rendered)] == [
        "<model 1 begins>",
        "<model 1 ends>",
    ]


def test_as_a_chat_the_trace_is_the_users_turn_and_the_label_the_assistants() -> None:
    tokenizer = HFTokenizer(byte_tokenizer(TEMPLATE))
    prompt = SwitcherPrompt(tokenizer, NAMES, kind="chat")
    told = tokenizer.decode(prompt.encode(trace("hi", ("aligned", "yo"))))
    assert told.startswith("<|user|>hi <model 2 begins> yo <model 2 ends> Which model")
    assert told.endswith("The answer is model \n<|assistant|>")
    assert tokenizer.decode(prompt.labels.labels[1]) == "1"


def test_a_chat_needs_a_template_that_leaves_the_users_words_alone() -> None:
    with pytest.raises(ConfigError, match="no chat template"):
        SwitcherPrompt(ByteTokenizer(), NAMES, kind="chat")
    escaping = HFTokenizer(byte_tokenizer("{{ messages[0].content | tojson }}"))
    with pytest.raises(ConfigError, match="changes what a user says"):
        SwitcherPrompt(escaping, NAMES, kind="chat")


def test_a_tokenizer_that_cannot_tell_numbers_apart_is_refused() -> None:
    class Numberless(ByteTokenizer):
        def encode(self, text: str) -> tuple[int, ...]:
            return super().encode(re.sub(r"\d", "#", text))

    with pytest.raises(ConfigError, match="two candidates the same label"):
        plain(Numberless())
