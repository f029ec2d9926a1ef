"""Many streamed chats over servers that are killed, cut and busy: does every answer end, whole?

python benchmarks/soak.py [--seconds 120] [--chats 200] [--kill-every-s 20]

Three real servers in processes of their own, on loopback: one is killed and started again every
20 s, 5 % of the answers are cut, each has seconds of 429. Every answer is known in advance, and its
words are numbered, so that a lost or doubled piece shows. Fails (exit code 1) if an answer does not
end, is another one than without faults, or if memory grows.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import logging
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles

from soak_server import MODEL
from switchbench.stories import ChunkTokenizer, story

from langgraph_switch import ChatSwitch, SwitchConfig, provenance
from langgraph_switch.engine_specs import OpenAIEngineSpec
from langgraph_switch.engines.base import Engine
from langgraph_switch.engines.openai_engine import OpenAIEngine
from langgraph_switch.engines.remote_tokenizer import LocalTokenizer
from langgraph_switch.engines.replicated import ReplicatedEngine
from langgraph_switch.errors import GenerationError

_ROOT = Path(__file__).resolve().parents[1]
_LONGEST_S = 300.0
_DOWN_S = 6.0
_PATIENCE_S = 60.0
_GROWTH, _GROWTH_MB = 0.10, 16.0


class Server:
    """A server process that can be killed and started again at its address."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = int(free.getsockname()[1])
        self.base_url = f"http://127.0.0.1:{self._port}/v1"
        self.start()

    def start(self) -> None:
        """Start the process."""
        program = [sys.executable, str(_ROOT / "benchmarks" / "soak_server.py")]
        options = ["--port", str(self._port), "--seed", str(self._seed)]
        environment = os.environ | {"PYTHONPATH": str(_ROOT), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen([*program, *options], env=environment)  # noqa: S603

    def kill(self) -> None:
        """Kill the process at once."""
        self._process.kill()
        self._process.wait()

    def wait_until_up(self, timeout_s: float = 90.0) -> None:
        """Wait for the first answer."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"{self.base_url}/models", timeout=2),  # noqa: S310
            ):
                return
            time.sleep(0.2)
        raise SystemExit(f"{self.base_url} does not come up")


@dataclass
class Tally:
    """What came of the chats."""

    first_text_s: list[float] = field(default_factory=list)
    whole_s: list[float] = field(default_factory=list)
    ends: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)
    kills: int = 0

    def note(self, problem: str, example: str) -> None:
        """Count an answer that is not as it should be."""
        self.ends[problem] += 1
        self.examples.append(f"{problem}: {example[:300]}")


def make_chat(servers: Sequence[Server], *, chats: int) -> ChatSwitch:
    """Return a switch of three candidates; the anchor has two replicas."""
    local = LocalTokenizer(
        source="stories",
        tokenizer=ChunkTokenizer(),
        vocab_size=ChunkTokenizer.vocab_size,
        eos_token_ids=(ChunkTokenizer.eos_id,),
    )
    first, second, third = (
        OpenAIEngine(OpenAIEngineSpec(base_url=one.base_url, model=MODEL), local) for one in servers
    )
    engines: dict[str, Engine] = {
        "pretrained": first,
        "finetuned": second,
        "aligned": ReplicatedEngine([third, first], cooldown_s=3),
    }
    prompt = {"kind": "plain", "plain_template": "{query}\n"}
    config = {
        "candidates": [{"name": n, "model": "stories", "prompt": prompt} for n in engines],
        "switcher": {"kind": "random"},
        "segment": {"max_tokens": 16},
        "max_tokens": 512,
        "sampling": {"temperature": 0},
        "limits": {"live_traces": chats},
        "failover": {
            "max_attempts": 3,
            "initial_wait_s": 0.1,
            "max_wait_s": 2,
            "cooldown_s": 3,
            "timeout_s": 30,
        },
    }
    return ChatSwitch(config=SwitchConfig.from_dict(config), engines=engines)


async def one_chat(chat: ChatSwitch, number: int, until: float, tally: Tally) -> None:
    """Ask one question after the other until the time is over."""
    for turn in itertools.count():
        if time.monotonic() >= until:
            return
        question = f"story {number}-{turn}"
        await asyncio.wait_for(_answer(chat, question, tally), _PATIENCE_S + _LONGEST_S)


async def _answer(chat: ChatSwitch, question: str, tally: Tally) -> None:
    started = time.perf_counter()
    whole = None
    try:
        async for chunk in chat.astream(question, seed=len(question)):
            if whole is None and chunk.text:
                tally.first_text_s.append(time.perf_counter() - started)
            whole = chunk if whole is None else whole + chunk
    except GenerationError as err:
        tally.note("broken off", str(err))
        return
    tally.whole_s.append(time.perf_counter() - started)
    text = str(whole.text) if whole is not None else ""
    if text != story(question):
        tally.note("other text", f"{text!r} instead of {story(question)!r}")
        return
    handed_over = whole is not None and any(
        one["decided_by"] == "failover" for one in provenance(whole)
    )
    tally.ends["whole, handed over" if handed_over else "whole"] += 1


async def chaos(servers: Sequence[Server], every_s: float, tally: Tally) -> None:
    """Kill one server after the other, each for a few seconds."""
    for server in itertools.cycle(servers):
        await asyncio.sleep(every_s - _DOWN_S)
        server.kill()
        tally.kills += 1
        await asyncio.sleep(_DOWN_S)
        server.start()


async def watch_memory(tally: Tally) -> None:
    """Note this process's memory every second."""
    while True:
        tally.memory_mb.append(_resident_mb())
        await asyncio.sleep(1)


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


async def soak(chat: ChatSwitch, servers: Sequence[Server], options: argparse.Namespace) -> Tally:
    """Run all chats, under faults, for the given time."""
    tally = Tally()
    until = time.monotonic() + options.seconds
    helpers = [
        asyncio.create_task(chaos(servers, options.kill_every_s, tally)),
        asyncio.create_task(watch_memory(tally)),
    ]
    chats = [one_chat(chat, number, until, tally) for number in range(options.chats)]
    try:
        await asyncio.wait_for(asyncio.gather(*chats), options.seconds + _PATIENCE_S)
    except TimeoutError:
        tally.note("no end", f"some chats had not ended {_PATIENCE_S:.0f} s after the time was up")
    finally:
        for helper in helpers:
            helper.cancel()
    return tally


def report(tally: Tally, seconds: float, chats: int) -> bool:
    """Print what was found; return whether all is well."""
    num_whole = sum(n for end, n in tally.ends.items() if end.startswith("whole"))
    num_bad = sum(tally.ends.values()) - num_whole
    print(f"{chats} chats for {seconds:.0f} s, {tally.kills} servers killed")
    for end, number in tally.ends.most_common():
        print(f"  {end}: {number}")
    for name, found in (("first text", tally.first_text_s), ("whole answer", tally.whole_s)):
        if len(found) > 1:
            cuts = quantiles(found, n=100)
            print(f"  {name}: p50 {cuts[49]:.2f} s, p95 {cuts[94]:.2f} s, p99 {cuts[98]:.2f} s")
    grown, is_flat = _growth(tally.memory_mb)
    print(f"  memory: {grown}")
    for example in tally.examples[:5]:
        print(f"  {example}")
    return num_bad == 0 and num_whole > 0 and is_flat


def _growth(memory_mb: Sequence[float]) -> tuple[str, bool]:
    """Compare the second fifth of the time (the first warms up) with the last one."""
    part = max(1, len(memory_mb) // 5)
    early, late = median(memory_mb[part : 2 * part] or memory_mb), median(memory_mb[-part:])
    limit = early * (1 + _GROWTH) + _GROWTH_MB
    return f"{early:.0f} MB, at the end {late:.0f} MB", late <= limit


@contextlib.contextmanager
def running(number: int) -> Iterator[list[Server]]:
    """Start servers, and kill them at the end."""
    servers = [Server(seed) for seed in range(number)]
    try:
        for server in servers:
            server.wait_until_up()
        yield servers
    finally:
        for server in servers:
            server.kill()


def main() -> None:
    """Run the soak test."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0, help="at most 300")
    parser.add_argument("--chats", type=int, default=200)
    parser.add_argument("--kill-every-s", type=float, default=20.0)
    options = parser.parse_args()
    options.seconds = min(options.seconds, _LONGEST_S - _PATIENCE_S)
    logging.getLogger("langgraph_switch").setLevel(logging.ERROR)  # Faults are on purpose.
    with running(3) as servers:
        chat = make_chat(servers, chats=options.chats)
        tally = asyncio.run(soak(chat, servers, options))
    if not report(tally, options.seconds, options.chats):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
