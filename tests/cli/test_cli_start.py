from __future__ import annotations

import subprocess
import sys
import time

import pytest
from conftest import Cli

import langgraph_switch

_HELP = """
import sys
sys.argv = ["langgraph-switch", *{arguments!r}]
from langgraph_switch.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
heavy = {{"torch", "transformers", "langgraph", "langchain_core"}} & set(sys.modules)
assert not heavy, heavy
"""


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"]])
def test_help_is_fast_and_loads_nothing_heavy(arguments: list[str]) -> None:
    code = _HELP.format(arguments=arguments)
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert time.perf_counter() - started < 2  # 0.2 s on an idle machine


def test_version(cli: Cli) -> None:
    assert cli("--version").stdout == f"langgraph-switch {langgraph_switch.__version__}\n"


def test_no_command_shows_help(cli: Cli) -> None:
    assert "Commands" in cli().output


def test_unknown_option_is_a_usage_error(cli: Cli) -> None:
    assert cli("run", "--bogus").exit_code == 2


def test_graph_is_a_mermaid_picture_and_loads_no_model(cli: Cli) -> None:
    done = cli("graph", "--candidate", "a=no/such", "--candidate", "b=no/such-either")
    assert done.exit_code == 0, done.output
    assert "graph TD" in done.stdout
    assert "generate_a" in done.stdout
