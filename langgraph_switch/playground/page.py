"""The playground's page (Gradio): a response in its speakers' colours, and forks beside it.

Everything is served from this machine. Knows nothing of how responses come about.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import gradio as gr

from langgraph_switch.errors import SwitchError
from langgraph_switch.palette import color_of
from langgraph_switch.playground.session import Session
from langgraph_switch.trace import Trace

EXAMPLES = (
    "How many legs do 3 spiders and 2 cats have in total?",
    "How many legs does a spider have?",
    "How many legs do 4 ants have in total?",
)
_HINT = "Click a segment of the response to see who else might have written it."
_FONTS = ("system-ui", "sans-serif")
_CSS = ".segments span {cursor: pointer}"

Spoken: TypeAlias = list[tuple[str, str]]


def build_page(session: Session, *, title: str, examples: tuple[str, ...] = ()) -> gr.Blocks:
    """Return the page.

    Args:
        session: Answers and forks.
        title: What stands above it.
        examples: Questions to begin with.
    """
    colors = color_of(session.names)
    page: gr.Blocks = gr.Blocks(title=title, analytics_enabled=False)
    with page:
        gr.Markdown(f"# {title}\nCheckpoints take turns to write one response.")
        trace = gr.State(None)
        number = gr.State(None)
        with gr.Row():
            question = gr.Textbox(label="Question", scale=5, elem_id="question")
            ask = gr.Button("Ask", variant="primary", scale=1, elem_id="ask")
        if examples:
            gr.Examples([[one] for one in examples], inputs=question)
        with gr.Row():
            response = _spoken("Response", colors, "response")
            forked = _spoken("Fork", colors, "fork")
        told = gr.Markdown(_HINT, elem_id="told")
        with gr.Row():
            chances = gr.Label(label="Who might have written it", elem_id="chances")
            with gr.Column():
                speaker = gr.Dropdown(
                    list(session.names), label="Let write instead", value=session.names[0]
                )
                fork = gr.Button("Fork here", interactive=False, elem_id="fork-here")
                download = gr.DownloadButton("Download the trace", interactive=False)

        def on_ask(asked: str) -> Iterator[Any]:
            yield from _answered(session, asked)

        def on_select(current: dict[str, Any], event: gr.SelectData) -> Any:
            return _explained(Trace.from_json(current), _index(event), session.names)

        def on_fork(current: dict[str, Any], at: int, who: str) -> Iterator[Spoken]:
            with _shown_errors():
                for grown in session.fork(Trace.from_json(current), at, who):
                    yield spoken(grown)

        shown = [response, trace, forked, told, download, fork]
        gr.on([ask.click, question.submit], on_ask, inputs=question, outputs=shown)
        response.select(on_select, inputs=trace, outputs=[told, chances, number, fork])
        fork.click(on_fork, inputs=[trace, number, speaker], outputs=forked)
    return page


def launch_page(page: gr.Blocks, *, host: str, port: int | None, wait: bool = True) -> str:
    """Serve a page and return its address.

    Args:
        page: The page.
        host: The address to listen on; 127.0.0.1 for this machine alone.
        port: The port; None for a free one.
        wait: Whether to serve until Ctrl-C.
    """
    theme = gr.themes.Default(font=_FONTS, font_mono=("monospace",))
    _, url, _ = page.launch(
        server_name=host,
        server_port=port,
        prevent_thread_lock=not wait,
        share=False,
        quiet=not wait,
        footer_links=[],
        theme=theme,
        css=_CSS,
    )
    return str(url)


def spoken(trace: Trace) -> Spoken:
    """Return a response as pieces of text with their speakers."""
    return [(segment.text, segment.speaker) for segment in trace.segments]


@contextmanager
def _shown_errors() -> Iterator[None]:
    """Turn this package's errors into messages on the page."""
    try:
        yield
    except SwitchError as err:
        raise gr.Error(str(err), print_exception=False) from err


def _spoken(label: str, colors: dict[str, str], elem_id: str) -> gr.HighlightedText:
    return gr.HighlightedText(
        label=label,
        color_map=colors,
        show_legend=True,
        combine_adjacent=False,
        elem_id=elem_id,
        elem_classes="segments",
    )


def _answered(session: Session, asked: str) -> Iterator[tuple[Any, ...]]:
    """Yield the page's parts while a question is answered."""
    idle = gr.Button(interactive=False)
    found: Trace | None = None
    with _shown_errors():
        for found in session.ask(asked):
            yield spoken(found), None, [], _HINT, gr.DownloadButton(interactive=False), idle
    if found is not None:
        saved = gr.DownloadButton(value=_saved(found), interactive=True)
        yield spoken(found), found.to_json(), [], _HINT, saved, idle


def _explained(trace: Trace, number: int, names: tuple[str, ...]) -> tuple[Any, ...]:
    """Return what there is to say of a segment: text, chances, number, the fork button."""
    segment = trace.segments[number]
    who = f"Segment {number + 1}: **{segment.speaker}**, decided by {segment.decided_by}"
    tokens = f"{len(segment.token_ids)} tokens, ended by {segment.finish_reason}"
    chances = {segment.speaker: 1.0}
    if segment.probabilities is not None:
        chances = dict(zip(names, segment.probabilities, strict=True))
    return f"{who}; {tokens}.", chances, number, gr.Button(interactive=True)


def _index(event: gr.SelectData) -> int:
    return int(event.index[0] if isinstance(event.index, list | tuple) else event.index)


def _saved(trace: Trace) -> str:
    """Return the path of a file that holds the trace."""
    folder = Path(tempfile.mkdtemp(prefix="switch-trace-"))
    file = folder / "trace.json"
    file.write_text(json.dumps(trace.to_json(), indent=2, ensure_ascii=False), encoding="utf-8")
    return str(file)
