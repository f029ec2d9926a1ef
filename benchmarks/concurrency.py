"""How much concurrent callers of one chat model gain from sharing its decoding steps.

python benchmarks/concurrency.py [--calls 64] [--pairs 5]

The same questions in a row, awaited at once, and in threads; medians of paired runs.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable
from statistics import median

import torch

from langgraph_switch import ChatSwitch

QUESTION = "How many legs do {} spiders and {} cats have in total?"


def main() -> None:
    """Time the three ways, and check that they answer alike."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=64)
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    chat = ChatSwitch.embedded()
    asked = [QUESTION.format(2 + i % 8, 2 + i // 8 % 8) for i in range(options.calls)]
    chat.batch(list(asked[:8]))
    ratios: dict[str, list[float]] = {"awaited at once": [], "batch (threads)": []}
    for _ in range(options.pairs):
        row_s, row = _timed(lambda: [str(chat.invoke(question).text) for question in asked])
        at_once_s, at_once = _timed(lambda: asyncio.run(_at_once(chat, asked)))
        threads_s, threads = _timed(lambda: [str(one.text) for one in chat.batch([*asked])])
        if not row == at_once == threads:
            raise SystemExit("concurrent calls gave other answers")
        ratios["awaited at once"].append(at_once_s / row_s)
        ratios["batch (threads)"].append(threads_s / row_s)
        print(f"in a row {row_s:.1f} s, awaited {at_once_s:.1f} s, threads {threads_s:.1f} s")
    for name, found in ratios.items():
        print(f"{name}: {median(found):.2f} x the time of {options.calls} calls in a row")


async def _at_once(chat: ChatSwitch, asked: list[str]) -> list[str]:
    answers = await asyncio.gather(*(chat.ainvoke(question) for question in asked))
    return [str(answer.text) for answer in answers]


def _timed(work: Callable[[], list[str]]) -> tuple[float, list[str]]:
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


if __name__ == "__main__":
    main()
