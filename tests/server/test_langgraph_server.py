"""`langgraph dev` serves the graphs; a client of its SDK runs them and sees who wrote what."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from langgraph_sdk import get_sync_client
from langgraph_sdk.client import SyncLangGraphClient

from langgraph_switch import SwitchLLM

pytestmark = pytest.mark.enable_socket

ROOT = Path(__file__).resolve().parents[2]
QUESTION = "How many legs do 3 spiders and 2 cats have in total?"
STARTS_WITHIN_S = 120


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SyncLangGraphClient]:
    """Start the in-memory server on a free loopback port, and end it."""
    folder = tmp_path_factory.mktemp("server")  # The server leaves its state where it runs.
    shutil.copytree(ROOT / "graphs", folder / "graphs")
    shutil.copy(ROOT / "langgraph.json", folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "langgraph_cli", "dev", "--no-browser", "--no-reload"]
    quiet = {"LANGSMITH_TRACING": "false", "LANGGRAPH_CLI_NO_ANALYTICS": "1", "NO_PROXY": "*"}
    log = (folder / "log.txt").open("w", encoding="utf-8")
    server = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port)],
        cwd=folder,
        env=os.environ | quiet | {"OMP_NUM_THREADS": "1"},
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(f"{url}/ok", server, folder / "log.txt")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("NO_PROXY", "*")
            yield get_sync_client(url=url)
    finally:
        server.terminate()
        server.wait(timeout=30)
        log.close()


def wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            if httpx.get(url, trust_env=False).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    pytest.fail(f"the server did not start:\n{log.read_text(encoding='utf-8')[-2000:]}")


def test_every_graph_is_served(client: SyncLangGraphClient) -> None:
    served = {assistant["graph_id"] for assistant in client.assistants.search(limit=20)}
    assert served == {"switch", "chat", "rollout", "train", "evaluate", "distill"}


def streamed(client: SyncLangGraphClient, **settings: Any) -> list[dict[str, Any]]:
    thread = client.threads.create()
    stream = client.runs.stream(
        thread["thread_id"],
        "switch",
        input={"queries": [QUESTION]},
        stream_mode="custom",
        config={"recursion_limit": 2000},
        **settings,
    )
    return [part.data for part in stream if part.event == "custom"]


def test_a_run_streams_its_tokens_and_who_wrote_them(client: SyncLangGraphClient) -> None:
    events = streamed(client)
    texts = [event for event in events if event["type"] == "text"]
    llm = SwitchLLM.embedded()
    assert "".join(event["text"] for event in texts) == llm.invoke(QUESTION)
    assert len({event["speaker"] for event in texts}) > 1
    assert events[-1]["type"] == "end"


def test_a_run_can_change_segments_switcher_and_seed(client: SyncLangGraphClient) -> None:
    settings = {"segment_tokens": 4, "switcher": "random", "seed": 3}
    events = streamed(client, context=settings)
    segments = [event["data"] for event in events if event["type"] == "segment"]
    assert {segment["decided_by"] for segment in segments} == {"anchor", "random"}
    assert max(len(segment["token_ids"]) for segment in segments) == 4
    assert events[-1]["data"]["seed"] == 3


def test_a_chat_streams_messages(client: SyncLangGraphClient) -> None:
    thread = client.threads.create()
    asked = {"messages": [{"role": "user", "content": QUESTION}]}
    parts = client.runs.stream(
        thread["thread_id"], "chat", input=asked, stream_mode="messages-tuple"
    )
    chunks = [part.data[0] for part in parts if part.event == "messages"]
    assert "".join(chunk["content"] for chunk in chunks) == SwitchLLM.embedded().invoke(QUESTION)
    pieces = [p for chunk in chunks for p in chunk["response_metadata"].get("provenance", [])]
    assert len({piece["speaker"] for piece in pieces}) > 1
