from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from langgraph_switch import SwitchConfig
from langgraph_switch.cli.app import app
from langgraph_switch.errors import ConfigError, EngineError
from langgraph_switch.families import family_config
from langgraph_switch.server_processes import is_healthy, running_servers
from langgraph_switch.serving import ServeOptions, ServePlan, ServerPlan, plan_servers

# Called as vLLM is, and healthy after a moment; ends at once if it is told to.
FAKE_VLLM = f"""#!{sys.executable}
import os, sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer

print("called with", sys.argv[1:], flush=True)
if os.environ.get("FAKE_ENDS"):
    sys.exit("no such model")
time.sleep(0.3)

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()

port = int(sys.argv[sys.argv.index("--port") + 1])
HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture
def fake_vllm(tmp_path: Path) -> str:
    file = tmp_path / "fake_vllm"
    file.write_text(FAKE_VLLM)
    file.chmod(0o755)
    return str(file)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def option(server: ServerPlan, name: str) -> str:
    return server.command[server.command.index(name) + 1]


def plan(family: str, **options: object) -> ServePlan:
    return plan_servers(family_config(family), ServeOptions(**options))  # type: ignore[arg-type]


def test_the_papers_family_takes_three_servers_and_its_switcher_none_of_its_own() -> None:
    found = plan("tulu3-8b", python="python")
    assert [option(s, "--model") for s in found.servers] == [
        "meta-llama/Llama-3.1-8B",
        "allenai/Llama-3.1-Tulu-3-8B-SFT",
        "allenai/Llama-3.1-Tulu-3-8B",
    ]
    assert [s.port for s in found.servers] == [8000, 8001, 8002]
    with_lora = [s for s in found.servers if "--enable-lora" in s.command]
    assert [option(s, "--lora-modules") for s in with_lora] == [
        "switcher=bunsenfeng/PFA_switcher_1"
    ]
    assert option(with_lora[0], "--served-model-name") == "aligned"
    for server in found.servers:
        assert "--enable-prefix-caching" in server.command
        assert option(server, "--max-model-len") == "4096"
        assert option(server, "--gpu-memory-utilization") == "0.30"  # Three on one GPU.
    aligned, switcher = found.config.candidate("aligned"), found.config.switcher
    assert aligned.engine is not None
    assert switcher.engine is not None  # type: ignore[union-attr]
    assert aligned.engine.base_url == switcher.engine.base_url  # type: ignore[union-attr]
    assert switcher.engine.model == "switcher"  # type: ignore[union-attr]


def test_servers_go_round_machines_and_gpus() -> None:
    found = plan("tulu3-8b", hosts=("a", "b"), gpus=("0", "1"), first_port=9000)
    assert [s.url for s in found.servers] == ["http://a:9000", "http://b:9000", "http://a:9001"]
    assert [s.environment["CUDA_VISIBLE_DEVICES"] for s in found.servers] == ["0", "0", "1"]
    assert {option(s, "--gpu-memory-utilization") for s in found.servers} == {"0.90"}
    assert [option(s, "--host") for s in found.servers] == ["a", "b", "a"]


def test_candidates_that_share_weights_share_a_server(tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"r": 12}')
    config = SwitchConfig.from_dict(
        {
            "candidates": [
                {"name": "a", "model": "org/base"},
                {"name": "b", "model": "org/base", "adapter": str(adapter)},
                {"name": "aligned", "model": "org/other", "revision": "v1"},
            ],
            "switcher": {"kind": "lm", "model": "org/base"},
        }
    )
    found = plan_servers(config, ServeOptions())
    first, second = found.servers
    names = first.command.index("--served-model-name")
    assert first.command[names + 1 : names + 3] == ("a", "switcher")
    assert option(first, "--lora-modules") == f"b={adapter}"
    assert option(first, "--max-lora-rank") == "16"
    assert option(second, "--revision") == "v1"
    b = found.config.candidate("b")
    assert (b.adapter, b.model) == (None, "org/base")
    assert b.engine is not None
    assert (b.engine.base_url, b.engine.model) == (f"{first.url}/v1", "b")
    with pytest.raises(ConfigError, match="on a server already"):
        plan_servers(found.config, ServeOptions())


def test_the_command_prints_lines_to_type_and_writes_what_uses_them(tmp_path: Path) -> None:
    out = tmp_path / "switch.json"
    arguments = ["serve-family", "tiny", "--cpu", "--out", str(out), "--api-key-env", "MY_KEY"]
    result = CliRunner().invoke(app, arguments, env={"MY_KEY": "sk-123"})
    assert result.exit_code == 0
    lines = [line for line in result.stdout.splitlines() if not line.startswith("#")]
    assert len(lines) == 4
    for line in lines:
        words = shlex.split(line)
        assert words[:2] == ["VLLM_CPU_KVCACHE_SPACE=1", "VLLM_API_KEY=$MY_KEY"]
        assert "--block-size" in words
    config = SwitchConfig.load(out)
    ports = [c.engine.base_url for c in config.candidates if c.engine]
    assert ports == [f"http://127.0.0.1:{port}/v1" for port in (8000, 8001, 8002)]
    assert "sk-123" not in result.output + out.read_text()


def test_without_a_file_the_configuration_is_printed_too() -> None:
    result = CliRunner().invoke(app, ["serve-family", "tulu3-8b", "--print"])
    _, _, text = result.stdout.partition("# switch.json\n")
    assert SwitchConfig.from_dict(json.loads(text)).candidates[0].engine is not None


def test_another_machines_servers_cannot_be_run_here() -> None:
    result = CliRunner().invoke(app, ["serve-family", "tiny", "--run", "--hosts", "far"])
    assert result.exit_code != 0
    assert "--print" in result.output


@pytest.mark.enable_socket
def test_servers_run_while_they_are_needed(fake_vllm: str, tmp_path: Path) -> None:
    plans = [
        ServerPlan(host="127.0.0.1", port=port, command=(fake_vllm, "--port", str(port)))
        for port in (free_port(), free_port())
    ]
    heard: list[str] = []
    with running_servers(plans, tmp_path, timeout_s=20, on_event=heard.append) as servers:
        assert all(is_healthy(one.url) for one in plans)
        assert len(heard) == 4
    assert all(server.process.returncode is not None for server in servers)
    assert not any(is_healthy(one.url) for one in plans)


@pytest.mark.enable_socket
def test_a_server_that_ends_says_why(
    fake_vllm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = ServerPlan(host="127.0.0.1", port=free_port(), command=(fake_vllm, "--port", "1"))
    monkeypatch.setenv("FAKE_ENDS", "1")
    with (
        pytest.raises(EngineError, match=r"(?s)ended with status 1.*no such model"),
        running_servers([one], tmp_path, timeout_s=20),
    ):
        pass
    missing = ServerPlan(host="127.0.0.1", port=1, command=("/no/such/program",))
    with (
        pytest.raises(ConfigError, match="no program"),
        running_servers([missing], tmp_path, timeout_s=20),
    ):
        pass


@pytest.mark.enable_socket
def test_ctrl_c_stops_what_the_command_runs(fake_vllm: str, tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "langgraph_switch.cli", "serve-family", "tiny", "--run"]
    command += ["--python", fake_vllm, "--port", str(port)]
    root = str(Path(__file__).resolve().parents[2])
    process = subprocess.Popen(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": root}, stderr=subprocess.PIPE
    )
    urls = [f"http://127.0.0.1:{port + i}" for i in range(4)]
    deadline = time.monotonic() + 60
    while not all(is_healthy(url) for url in urls):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    process.wait(timeout=30)
    assert process.returncode != 0
    assert not any(is_healthy(url) for url in urls)
    logs = sorted((tmp_path / "runs" / "servers").glob("*.log"))
    assert len(logs) == 4
    assert "--served-model-name" in logs[0].read_text()
