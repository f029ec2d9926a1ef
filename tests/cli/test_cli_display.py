from __future__ import annotations

import io
import re

import pytest
from rich.color import ColorSystem
from rich.console import Console
from rich.style import Style

from langgraph_switch.cli.options import ScreenOptions
from langgraph_switch.cli.render import TextStream, Voices, segment_table
from langgraph_switch.cli.screen import Screen, visible
from langgraph_switch.streaming import TextEvent
from langgraph_switch.trace import Message, Segment, Trace

NAMES = ("pretrained", "finetuned", "aligned")


def _terminal(*, width: int = 40, no_color: bool = False) -> Screen:
    screen = Screen(ScreenOptions())
    screen.out = Console(
        file=io.StringIO(), force_terminal=True, width=width, color_system="truecolor",
        no_color=no_color, highlight=False, legacy_windows=False,
    )  # fmt: skip
    return screen


def _show(screen: Screen, *pieces: tuple[str, str]) -> str:
    stream = TextStream(screen, Voices(NAMES))
    for speaker, text in pieces:
        stream.show(TextEvent(type="text", trace=0, segment=0, speaker=speaker, text=text))
    stream.close()
    assert isinstance(screen.out.file, io.StringIO)
    return screen.out.file.getvalue()


def _without_colors(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_pieces_join_exactly_whatever_the_width() -> None:
    pieces = [
        "A long line that is ",
        "wider than the ",
        "terminal   ",
        " x\n",
        "\n  in",
        "dented ",
        "\n",
    ]
    shown = _show(
        _terminal(width=12), *((name, p) for name, p in zip(NAMES * 3, pieces, strict=False))
    )
    assert _without_colors(shown) == "".join(pieces)


def test_each_speaker_has_a_colour_of_its_own() -> None:
    shown = _show(_terminal(), ("pretrained", "a"), ("aligned", "b"), ("finetuned", "c"))
    colors = re.findall(r"\x1b\[(38;2;[0-9;]+)m[abc]", shown)
    assert len(set(colors)) == 3


@pytest.mark.parametrize("system", [ColorSystem.STANDARD, ColorSystem.EIGHT_BIT])
def test_three_speakers_stay_apart_on_simple_terminals(system: ColorSystem) -> None:
    voices = Voices(NAMES)
    styles = [Style.parse(voices.style(name)) for name in NAMES]
    assert len({style.color.downgrade(system).number for style in styles if style.color}) == 3


def test_without_colour_there_is_none() -> None:
    assert "\x1b" not in _show(_terminal(no_color=True), ("aligned", "text"))


def test_generated_text_is_no_markup_and_commands_no_terminal() -> None:
    shown = _show(
        _terminal(), ("aligned", "[bold]x[/bold] :smile: \x1b]0;title\x07\x1b[2Jy\rz\x9b1m\u202e")
    )
    assert _without_colors(shown) == "[bold]x[/bold] :smile: ]0;title[2Jyz1m\n"


def test_visible_keeps_ordinary_text() -> None:
    text = "tab\tline\ncaf\u00e9 \u4f60\u597d \U0001f600 \ufffd"
    assert visible(text) == text


@pytest.mark.parametrize("width", [40, 70, 200])
def test_the_table_names_who_wrote_what(width: int) -> None:
    segments = tuple(
        Segment(
            speaker=name, text=f"{name} wrote\nthis [red]\x1b[31m", token_ids=(1, 2), tokenizer="t",
            decided_by="switcher", finish_reason="length", probabilities=(0.25, 0.75, 0.0),
            generate_s=0.5,
        )
        for name in NAMES
    )  # fmt: skip
    trace = Trace(
        messages=(Message(role="user", content="?"),), trace_id="t", seed=1, max_tokens=9,
        segments=segments,
    )  # fmt: skip
    console = Console(file=io.StringIO(), width=width)
    console.print(segment_table(trace, Voices(NAMES), width=width))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert len(lines) == 4
    assert max(map(len, lines)) <= width
    assert "\x1b" not in console.file.getvalue()
    if width >= 70:
        assert all(name in line for name, line in zip(NAMES, lines[1:], strict=True))
        assert ".25 .75 .00" in lines[1]
