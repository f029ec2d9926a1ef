from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tiny_models import merging_tokenizer, metaspace_tokenizer, switch_config

from langgraph_switch import ScriptedEngine, Segment, Trace
from langgraph_switch.engines.byte_tokenizer import ByteTokenizer
from langgraph_switch.engines.tokenizer import HFTokenizer, Tokenizer
from langgraph_switch.prompts.handover import response_ids, segment_ids
from langgraph_switch.queries import trace_from_query

MERGING, METASPACE = HFTokenizer(merging_tokenizer()), HFTokenizer(metaspace_tokenizer())
PIECES = st.lists(st.text("the 🙂日cat\n", min_size=1, max_size=6), min_size=1, max_size=5)


def segment(text: str, tokenizer: Tokenizer, ids: tuple[int, ...] | None = None) -> Segment:
    return Segment(
        speaker="a",
        text=text,
        token_ids=tokenizer.encode(text) if ids is None else ids,
        tokenizer=tokenizer.fingerprint,
        decided_by="fixed",
        finish_reason="length",
    )


def response(*segments: Segment) -> Trace:
    trace = trace_from_query("q", switch_config())
    for one in segments:
        trace = trace.append(one)
    return trace


def test_the_same_vocabulary_keeps_the_exact_tokens() -> None:
    one_by_one = tuple(token for letter in "the cat" for token in MERGING.encode(letter))
    assert one_by_one != MERGING.encode("the cat")
    written = segment("the cat", MERGING, one_by_one)
    assert segment_ids(written, ScriptedEngine(tokenizer=MERGING)) == one_by_one
    assert segment_ids(written, ScriptedEngine()) == ByteTokenizer().encode("the cat")


@given(PIECES)
def test_another_vocabulary_reads_the_same_text(pieces: list[str]) -> None:
    for source, reader in [(ByteTokenizer(), MERGING), (MERGING, ByteTokenizer())]:
        trace = response(*(segment(piece, source) for piece in pieces))
        ids = response_ids(trace, ScriptedEngine(tokenizer=reader))
        assert reader.decode(ids) == "".join(pieces)


def test_tokens_that_the_readers_model_has_no_row_for_are_read_as_text() -> None:
    small = ScriptedEngine(tokenizer=MERGING, vocab_size=5)
    written = segment("the", MERGING, (4, 200))
    assert segment_ids(written, small) == MERGING.encode("the")
    assert segment_ids(segment("the", MERGING, (4, 4)), small) == (4, 4)


@given(PIECES, st.integers(1, 4))
def test_a_longer_response_only_appends(pieces: list[str], cut: int) -> None:
    engine = ScriptedEngine(tokenizer=MERGING)
    segments = [segment(piece, ByteTokenizer()) for piece in pieces]
    before = response_ids(response(*segments[:cut]), engine)
    assert response_ids(response(*segments), engine)[: len(before)] == before


def test_no_blank_is_added_where_a_word_goes_on() -> None:
    trace = response(segment("the ca", ByteTokenizer()), segment("t sat", ByteTokenizer()))
    ids = response_ids(trace, ScriptedEngine(tokenizer=METASPACE))
    assert METASPACE.decode(ids).strip() == "the cat sat"
