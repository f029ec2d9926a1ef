from __future__ import annotations

import sys
from typing import Any

import pytest
from conftest import Cli

from langgraph_switch.playground import page as page_module


def test_the_page_is_served_where_the_options_say(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[dict[str, Any]] = []
    monkeypatch.setattr(page_module, "launch_page", lambda _, **where: served.append(where))
    done = cli("app", "--port", "7999")
    assert done.exit_code == 0, done.output
    assert served == [{"host": "127.0.0.1", "port": 7999}]


def test_without_gradio_the_extra_is_named(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "langgraph_switch.playground.page")
    done = cli("app")
    assert done.exit_code == 2
    assert "langgraph-switch[app]" in done.stderr
