"""What a response looks like on a terminal: one colour per speaker, and a table of segments.

The table says in words what the colours say. Knows nothing of how responses come about.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from langgraph_switch.cli.screen import Screen, visible
from langgraph_switch.palette import color_of
from langgraph_switch.streaming import Event
from langgraph_switch.trace import Segment, Trace

_TEXT, _PROBABILITIES = 2, 5
_NUMBERS = frozenset({"#", "tokens", "time"})
_PADDING = 2
_LEAST_TEXT = 8


class Voices:
    """The colour of every candidate."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._styles = color_of(self.names)

    def style(self, speaker: str) -> str:
        """Return a speaker's colour."""
        return self._styles[speaker]

    def legend(self) -> Text:
        """Return one line that shows who has which colour."""
        return Text("  ").join(
            Text(f"\u25a0 {name}", style=self.style(name)) for name in self.names
        )


class TextStream:
    """Shows a response's text on stdout while it is written.

    On a terminal in the speakers' colours, without what a terminal would obey; into a pipe or a
    file exactly as it is.
    """

    def __init__(self, screen: Screen, voices: Voices) -> None:
        self._screen = screen
        self._voices = voices
        self._is_line_open = False

    def show(self, event: Event) -> None:
        """Show an event's text, if it has one."""
        if event["type"] != "text":
            return
        self._is_line_open = not event["text"].endswith("\n")
        out = self._screen.out
        if self._screen.is_terminal:
            out.out(visible(event["text"]), style=self._voices.style(event["speaker"]), end="")
        else:
            out.file.write(event["text"])
            out.file.flush()

    def close(self) -> None:
        """End the last line."""
        if self._is_line_open:
            self._screen.out.file.write("\n")
            self._screen.out.file.flush()
            self._is_line_open = False


def segment_table(trace: Trace, voices: Voices, *, width: int) -> Table:
    """Return the segments of a response: who, what, how long, why, how likely, how fast.

    Args:
        trace: The response.
        voices: The candidates' colours.
        width: Cells of the line; the text takes what the other columns leave.
    """
    heads = ["#", "speaker", "text", "tokens", "by", _probabilities_head(voices), "time"]
    rows = [_row(number, segment, voices) for number, segment in enumerate(trace.segments)]
    if not any(row[_PROBABILITIES] for row in rows):
        del heads[_PROBABILITIES]
        rows = [row[:_PROBABILITIES] + row[_PROBABILITIES + 1 :] for row in rows]
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1, 0, 1))
    taken = sum(
        max(len(cell) for cell in column) + _PADDING
        for index, column in enumerate(zip(heads, *rows, strict=True))
        if index != _TEXT
    )
    for index, head in enumerate(heads):
        table.add_column(
            head,
            justify="right" if head in _NUMBERS else "left",
            no_wrap=True,
            overflow="ellipsis",
            max_width=max(_LEAST_TEXT, width - taken) if index == _TEXT else None,
        )
    for row in rows:
        table.add_row(*row)
    return table


def summary(trace: Trace) -> str:
    """Return one line about a whole response: size, end, shares, seed, time."""
    total = sum(segment.decide_s + segment.generate_s for segment in trace.segments)
    shares = [
        f"{name} {count / max(trace.num_tokens, 1):.0%}"
        for name, count in trace.tokens_by_speaker().items()
    ]
    end = f"ended by {trace.finish_reason}" if trace.finish_reason else "broken off"
    parts = [f"{trace.num_tokens} tokens ({', '.join(shares)})" if shares else "no tokens", end]
    return ", ".join([*parts, f"seed {trace.seed}", seconds(total)])


def seconds(duration: float) -> str:
    """Return a duration for people."""
    return f"{duration:.1f} s" if duration >= 1 else f"{duration * 1000:.0f} ms"


def _one_line(text: str) -> str:
    return visible(text.replace("\n", "\u23ce").replace("\t", " "))


def _row(number: int, segment: Segment, voices: Voices) -> list[Text]:
    style = voices.style(segment.speaker)
    return [
        Text(str(number), style="dim"),
        Text(segment.speaker, style=style),
        Text(_one_line(segment.text), style=style),
        Text(str(len(segment.token_ids))),
        Text(segment.decided_by),
        _probabilities(segment, voices),
        Text(seconds(segment.decide_s + segment.generate_s), style="dim"),
    ]


def _probabilities_head(voices: Voices) -> str:
    return f"P({' '.join(name[:3] for name in voices.names)})"


def _probabilities(segment: Segment, voices: Voices) -> Text:
    cells = [
        Text(f"{probability:.2f}".replace("0.", ".", 1), style=voices.style(name))
        for name, probability in zip(voices.names, segment.probabilities or (), strict=False)
    ]
    return Text(" ").join(cells)
