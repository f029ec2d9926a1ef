"""Words and calls are told apart, whatever pieces a response comes in."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langgraph_switch.blocks import has_open_block
from langgraph_switch.chat.calls import CallScanner, ParsedCall

ADD = '{"name": "add", "arguments": {"a": 1}}'
HERMES = f"<tool_call>\n{ADD}\n</tool_call>"
LLAMA = '{"name": "add", "parameters": {"a": 1}}'


def scanned(pieces: Sequence[str], *, may_call: bool = True) -> tuple[str, list[ParsedCall]]:
    scanner = CallScanner()
    words = [scanner.push(piece, may_call=may_call) for piece in pieces]
    return "".join([*words, scanner.finish()]), scanner.calls


@pytest.mark.parametrize(
    ("text", "words", "calls"),
    [
        (HERMES, "", [{"a": 1}]),
        (f"I add.\n{HERMES}", "I add.", [{"a": 1}]),
        (f"{HERMES}\n{HERMES}\n", "", [{"a": 1}, {"a": 1}]),
        (f"{HERMES} Done.", " Done.", [{"a": 1}]),
        (LLAMA, "", [{"a": 1}]),
        (f"  {LLAMA}; {LLAMA}", "", [{"a": 1}, {"a": 1}]),
        (f"<|python_tag|>{LLAMA}", "", [{"a": 1}]),
        (f"[TOOL_CALLS][{ADD}, {ADD}]", "", [{"a": 1}, {"a": 1}]),
        (f"<function_call>{ADD}</function_call>", "", [{"a": 1}]),
        ('<tool_call>{"name": "add", "arguments": "{\\"a\\": 1}"}</tool_call>', "", [{"a": 1}]),
        (f'<tool_call>{{"function": {ADD}}}</tool_call>', "", [{"a": 1}]),
        (HERMES.removesuffix("</tool_call>"), "", [{"a": 1}]),
        ("Just words.", "Just words.", []),
        ("a < b and <tool", "a < b and <tool", []),
        ('{"legs": 8}', '{"legs": 8}', []),
        ('{"legs": ', '{"legs": ', []),
        ("Words first. " + LLAMA, "Words first. " + LLAMA, []),
        ("trailing blanks \n", "trailing blanks \n", []),
    ],
)
def test_words_and_calls(text: str, words: str, calls: list[dict[str, int]]) -> None:
    for pieces in ([text], list(text)):
        found, parsed = scanned(pieces)
        assert found == words
        assert [call.arguments for call in parsed] == calls
        assert all(call.name == "add" and call.error is None for call in parsed)


@pytest.mark.parametrize(
    ("inside", "problem"),
    [
        ('{"name": "add", "arguments": {"a": 1}', "no JSON"),
        ('{"arguments": {"a": 1}}', "needs a name"),
        ('{"name": "add", "arguments": [1]}', "no JSON object"),
        ('{"name": "add", "arguments": "a=1"}', "arguments are no JSON"),
        ('{"name": "add"}', "no JSON object"),
        ("42", "needs a name"),
    ],
)
def test_a_broken_call_is_kept_with_the_reason(inside: str, problem: str) -> None:
    words, [call] = scanned(list(f"So: <tool_call>{inside}</tool_call>"))
    assert words == "So:"
    assert call.arguments is None
    assert problem in (call.error or "")
    assert call.raw == f"<tool_call>{inside}"


def test_a_call_of_somebody_who_may_not_call_is_text() -> None:
    assert scanned(list(HERMES), may_call=False) == (HERMES, [])
    scanner = CallScanner()
    assert scanner.push("Hm <tool", may_call=True) == "Hm"
    assert scanner.push("_box> is empty.", may_call=False) == " <tool_box> is empty."


PIECES = st.lists(
    st.sampled_from([HERMES, LLAMA, "<tool_call>", "</tool_call>", " ", "\n", "x", "{", "}", "<t"]),
    max_size=8,
)


@given(PIECES, st.randoms(use_true_random=False))
def test_how_a_response_is_cut_into_pieces_changes_nothing(
    pieces: list[str], random: object
) -> None:
    text = "".join(pieces)
    cuts = sorted(random.sample(range(len(text) + 1), k=min(4, len(text))))  # type: ignore[attr-defined]
    parts = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert scanned(parts) == scanned([text])


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=9), max_size=3))
def test_any_arguments_come_back(arguments: dict[str, object]) -> None:
    call = json.dumps({"name": "f", "arguments": arguments}, ensure_ascii=False)
    if "tool_call>" in call or "TOOL_CALLS" in call:
        return
    _, [parsed] = scanned([f"<tool_call>{call}</tool_call>"])
    assert parsed.arguments == arguments


@pytest.mark.parametrize(
    ("text", "is_open"),
    [
        ("", False),
        ("words", False),
        ("<tool_call>", True),
        ("Well <tool_c", True),
        (HERMES, False),
        (HERMES + "\n<", True),
        ("```python\nprint(1)\n", True),
        ("```python\nprint(1)\n```\n", False),
        ('{"a": [1, 2', True),
        ('{"a": "}"', True),
        ('{"a": "\\"}"}', False),
        ('The set {"a"', False),
        ("1 < 2", False),
    ],
)
def test_blocks_are_open_until_they_are_closed(text: str, is_open: bool) -> None:
    assert has_open_block(text) is is_open
