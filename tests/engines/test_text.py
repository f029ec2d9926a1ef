"""Tokenizers and detokenising: what goes in comes out, whole characters at a time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiny_models import TEMPLATE, byte_tokenizer, merging_tokenizer, metaspace_tokenizer

from langgraph_switch.config import SegmentBoundary
from langgraph_switch.engines.byte_tokenizer import ByteTokenizer
from langgraph_switch.engines.detokenize import BROKEN, IncrementalDetokenizer
from langgraph_switch.engines.tokenizer import HFTokenizer, Tokenizer
from langgraph_switch.errors import InputError
from langgraph_switch.stops import BoundaryWatch, ends_sentence
from langgraph_switch.trace import Message

TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {
    "bytes": ByteTokenizer,
    "byte level": lambda: HFTokenizer(byte_tokenizer()),
    "byte level with merges": lambda: HFTokenizer(merging_tokenizer()),
    "metaspace": lambda: HFTokenizer(metaspace_tokenizer()),
}
TEXT = st.text(st.sampled_from("abc the 🙂🙃naïve日本語 \n\t,.<>é"), max_size=25)


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=60, deadline=None)
@example(text="é🙂🙂🙂🙂", cut=17)  # One run of bytes, longer than the context that is read.
@given(text=TEXT, cut=st.integers(0, 40))
def test_pieces_add_up_to_the_whole_and_never_show_half_a_character(
    name: str, text: str, cut: int
) -> None:
    tokenizer = TOKENIZERS[name]()
    ids = tokenizer.encode(text)
    pieces = []
    for part in (ids[:cut], ids[cut:]):  # Two segments: the second knows the first as context.
        detokenizer = IncrementalDetokenizer(tokenizer, ids[:cut] if pieces else ())
        pieces += [detokenizer.push(token) for token in part] or [""]
        if part is ids:
            break
    assert all(BROKEN not in piece for piece in pieces)
    assert "".join(pieces) + detokenizer.pending_text == tokenizer.decode(ids)


@settings(max_examples=100, deadline=None)
@given(ids=st.lists(st.integers(0, 255), max_size=60))
def test_bytes_that_are_no_text_come_out_as_decoding_them_at_once(ids: list[int]) -> None:
    tokenizer = ByteTokenizer()
    detokenizer = IncrementalDetokenizer(tokenizer)
    text = "".join(detokenizer.push(token) for token in ids)
    assert text + detokenizer.pending_text == tokenizer.decode(ids)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_text_encoded_in_parts_decodes_to_the_whole(name: str) -> None:
    tokenizer = TOKENIZERS[name]()
    parts = ["the cat", " and", " the dog", "s sat", "", " in", "\nthe house"]
    ids = [token for part in parts for token in tokenizer.encode(part)]
    first = tokenizer.encode_document("x")
    assert tokenizer.decode([*first, *ids]) == tokenizer.decode(first) + "".join(parts)


def test_fingerprints_are_equal_exactly_for_equal_vocabularies() -> None:
    assert (
        HFTokenizer(byte_tokenizer()).fingerprint
        == HFTokenizer(byte_tokenizer(TEMPLATE)).fingerprint
    )
    prints = {make().fingerprint for make in TOKENIZERS.values()}
    assert len(prints) == len(TOKENIZERS)


def test_a_special_token_has_no_text() -> None:
    tokenizer = HFTokenizer(byte_tokenizer())
    eos = byte_tokenizer().eos_token_id
    assert tokenizer.decode([*tokenizer.encode("a"), eos, *tokenizer.encode("b")]) == "ab"


def test_a_chat_is_rendered_with_the_assistants_turn_open() -> None:
    messages = [Message(role="system", content="S"), Message(role="user", content=" u ")]
    tokenizer = HFTokenizer(byte_tokenizer(TEMPLATE))
    assert tokenizer.render_chat(messages) == "<|system|>S\n<|user|> u \n<|assistant|>"
    assert ByteTokenizer(chat=True).render_chat(messages).endswith("<|assistant|>\n")


def test_a_template_that_refuses_the_messages_is_an_input_error() -> None:
    refusing = "{{ raise_exception('user and assistant must alternate') }}"
    tokenizer = HFTokenizer(byte_tokenizer(refusing))
    with pytest.raises(InputError, match=r"must alternate(?s:.*)prompt.kind"):
        tokenizer.render_chat([Message(role="user", content="x")])


@pytest.mark.parametrize(
    ("piece", "ends"),
    [
        (".", True),
        (" legs.", True),
        ('?"', True),
        ("so.) ", True),
        ("\n", True),
        ("a\nb", True),
        ("。", True),
        ("legs", False),
        (" ", False),
        ("", False),
        (", ", False),
        ("3.5", False),
    ],
)
def test_the_end_of_a_sentence_is_known_by_its_last_token(piece: str, ends: bool) -> None:
    assert ends_sentence(piece) is ends


@pytest.mark.parametrize(
    ("kind", "before", "pieces", "ends"),
    [
        ("length", "", ["A.", "\n"], [False, False]),
        ("sentence", "", ["A b", ".", " C"], [False, True, False]),
        ("step", "", ["A. B", "\n", "C"], [False, True, False]),
        ("code", "", ["x\n``", "`py\n1", "\n", "```", "\n", "y\n"], [False] * 4 + [True, False]),
        ("code", "```py\n1\n", ["``", "`\n"], [False, True]),
        ("code", "```", ["py\n", "2\n```\n"], [False, True]),
    ],
)
def test_boundaries_of_segments(
    kind: SegmentBoundary, before: str, pieces: list[str], ends: list[bool]
) -> None:
    watch = BoundaryWatch(kind, before)
    assert [watch.push(piece) for piece in pieces] == ends
