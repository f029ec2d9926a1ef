"""`langgraph-switch run` with one question: the answer as it is written, then who wrote what.

Knows nothing of files of questions.
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from typing import Any

from langgraph_switch.cli.render import TextStream, Voices, segment_table, summary
from langgraph_switch.cli.screen import Screen
from langgraph_switch.config import SwitchConfig
from langgraph_switch.errors import GenerationError, InputError
from langgraph_switch.jobs.lines import json_line
from langgraph_switch.jobs.runner import answer_of, run_events
from langgraph_switch.llm import SwitchLLM
from langgraph_switch.trace import Trace


def answer_one(
    query: str,
    config: SwitchConfig,
    screen: Screen,
    *,
    as_json: bool,
    trusted: Collection[str] = (),
) -> None:
    """Answer one question.

    Raises:
        SwitchError: The question or the switch is at fault, or an engine failed; what had been
            written is on the screen.
    """
    check_text(query)
    llm = load(config, screen, trusted=trusted)
    if as_json:
        _answer_as_json(query, llm, screen)
        return
    voices = Voices(config.names)
    screen.err.print(voices.legend())
    show_response(query, llm, screen, voices)


def load(config: SwitchConfig, screen: Screen, *, trusted: Collection[str] = ()) -> SwitchLLM:
    """Return the switch with its models loaded; code of those `trusted` may be run.

    Raises:
        ModelLoadError: A model, adapter or tokenizer cannot be loaded.
    """
    llm = SwitchLLM(config=config, trust_remote_code=trusted)
    with screen.err.status("Loading models ...") if screen.err.is_terminal else _Silence():
        llm.switch  # noqa: B018 - a cached property: loads here
    return llm


def show_response(query: str, llm: SwitchLLM, screen: Screen, voices: Voices) -> Trace:
    """Show one response as it is written, and its table; return it."""
    stream = TextStream(screen, voices)
    trace: Trace | None = None
    try:
        for event in run_events(llm, [query]):
            stream.show(event)
            if event["type"] == "end":
                trace = Trace.from_json(event["data"])
    except GenerationError as err:
        stream.close()
        for broken in err.traces:
            show_table(broken, screen, voices)
        raise
    finally:
        stream.close()
    if trace is None:
        raise GenerationError("The response has no end.", traces=())
    show_table(trace, screen, voices)
    return trace


def show_table(trace: Trace, screen: Screen, voices: Voices) -> None:
    """Show who wrote which segment."""
    screen.err.print()
    screen.err.print(segment_table(trace, voices, width=screen.err.width))
    screen.note(summary(trace))


def read_question() -> str:
    """Return the question that somebody types, or that comes through a pipe."""
    if not sys.stdin.isatty():
        return sys.stdin.read().rstrip("\n")
    sys.stderr.write("Question: ")
    sys.stderr.flush()
    return sys.stdin.readline().rstrip("\n")


def check_text(query: str) -> None:
    """Refuse a question that no model could read, before any is loaded.

    Raises:
        InputError: It is empty, or holds bytes that are no UTF-8.
    """
    if not query.strip():
        raise InputError("The query is empty.", hint='ask something: run "..."')
    try:
        query.encode("utf-8")
    except UnicodeEncodeError as err:
        raise InputError("The query is no valid UTF-8 text.", hint="write it in UTF-8") from err


def _answer_as_json(query: str, llm: SwitchLLM, screen: Screen) -> None:
    trace: Trace | None = None
    try:
        for event in run_events(llm, [query]):
            if event["type"] == "end":
                trace = Trace.from_json(event["data"])
    except GenerationError as err:
        for broken in err.traces:
            write_json(answer_of(broken) | {"error": str(err)}, screen)
        raise
    if trace is not None:
        write_json(answer_of(trace), screen)


def write_json(value: dict[str, Any], screen: Screen) -> None:
    """Write one line of JSON to stdout."""
    screen.out.file.write(json_line(value))
    screen.out.file.flush()


class _Silence:
    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass
