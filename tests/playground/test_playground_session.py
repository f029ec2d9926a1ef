"""Asking, watching and forking, without a page."""

from __future__ import annotations

import pytest

from langgraph_switch import Switch, SwitchLLM
from langgraph_switch.errors import InputError
from langgraph_switch.families import embedded_config
from langgraph_switch.playground.session import Session
from langgraph_switch.trace import Trace

QUESTION = "How many legs do 3 spiders and 2 cats have in total?"


@pytest.fixture(scope="module")
def switch() -> Switch:
    return Switch(embedded_config())


@pytest.fixture
def session(switch: Switch) -> Session:
    return Session(switch)


def finished(session: Session) -> Trace:
    *_, last = session.ask(QUESTION)
    return last


def test_a_response_grows_until_it_is_finished(session: Session) -> None:
    shown = list(session.ask(QUESTION))
    lengths = [len(trace.text) for trace in shown]
    assert lengths == sorted(lengths)
    assert len(shown) > 20
    assert shown[-1].is_finished
    assert shown[-1].text == SwitchLLM.embedded().invoke(QUESTION)


def test_a_fork_keeps_what_stands_before_it(session: Session, switch: Switch) -> None:
    whole = finished(session)
    *_, forked = session.fork(whole, 2, "pretrained")
    assert forked.segments[:2] == whole.segments[:2]
    assert forked.segments[2].speaker == "pretrained"
    assert forked.segments[2].decided_by == "fixed"
    assert forked.is_finished
    engines = [candidate.engine for candidate in switch.candidates.values()]
    assert sum(engine.num_rows for engine in engines) == 0  # type: ignore[attr-defined]


def test_a_fork_with_the_same_speaker_is_the_same_response(session: Session) -> None:
    whole = finished(session)
    for number, segment in enumerate(whole.segments):
        *_, forked = session.fork(whole, number, segment.speaker)
        assert forked.text == whole.text


def test_forks_that_cannot_be_are_refused(session: Session) -> None:
    whole = finished(session)
    with pytest.raises(InputError, match="no segment"):
        next(session.fork(whole, 99, "aligned"))
    with pytest.raises(InputError, match="no candidate"):
        next(session.fork(whole, 0, "gpt"))
    with pytest.raises(InputError, match="empty"):
        next(session.ask("  "))
