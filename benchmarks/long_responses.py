"""Does a token of a long response cost more than in plain `generate()`?

One response of 4,096 tokens by three random-weight llamas in turns, and one by `generate()`; the
time per token of the last quarter against the first, ours against theirs.

    python benchmarks/long_responses.py --keep     # about 6 minutes with one thread
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import itertools

import torch
from switchbench.contestants import Job, Models, Ours, make_config
from switchbench.models import SIZES
from switchbench.records import keep
from switchbench.timing import set_threads
from transformers.generation.streamers import BaseStreamer

from langgraph_switch import SwitchLLM, Trace

TOKENS = 4096
LIMIT = 1.2


class _Times(BaseStreamer):
    """When `generate()` came to each token."""

    def __init__(self) -> None:
        self.seen = [time.perf_counter()]

    def put(self, value: torch.Tensor) -> None:  # noqa: ARG002
        """Take a token, or the prompt."""
        self.seen.append(time.perf_counter())

    def end(self) -> None:
        """Do nothing more."""


def main() -> None:
    """Measure pairs and print the ratio of growths."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=list(SIZES), default="5M")
    parser.add_argument("--tokens", type=int, default=TOKENS)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--keep", action="store_true", help="write the figures into records.json")
    args = parser.parse_args()
    machine = set_threads(1, pin=True)
    models = Models(SIZES[args.size], seed=1)
    prompts = models.prompts(1, seed=1)
    job = Job(prompts, args.tokens, segment_tokens=50, greedy=False, seed=1)
    llm = SwitchLLM(config=make_config(job), engines=Ours(models).engines)
    llm.invoke(prompts[0], max_tokens=60)
    pairs: list[dict[str, Any]] = []
    for pair in range(args.pairs):
        plain, ours = plain_quarters(models, job), our_quarters(llm, prompts[0], seed=pair)
        pairs.append(
            {
                "generate_ms_per_token": plain,
                "ours_ms_per_token": ours,
                "ratio": (ours[1] / ours[0]) / (plain[1] / plain[0]),
            }
        )
        for name, (first, last) in (("generate()", plain), ("ours", ours)):
            print(
                f"pair {pair + 1}: {name} {first:.2f} -> {last:.2f} ms per token, "
                f"x {last / first:.2f}, + {last - first:.2f}"
            )
    ratio = statistics.median(pair["ratio"] for pair in pairs)
    print(f"growth, ours / generate(): {ratio:.2f} (at most {LIMIT})")
    if args.keep:
        found = {"tokens": args.tokens, "size": args.size, "pairs": pairs, "ratio": ratio}
        keep("long_responses", found | {"limit": LIMIT, "machine": machine})


def plain_quarters(models: Models, job: Job) -> tuple[float, float]:
    """Return `generate()`'s milliseconds per token in the first quarter and in the last."""
    times = _Times()
    inputs = models.tokenizer([f"{job.prompts[0]}\n"], return_tensors="pt")
    generate: Any = models.modules["aligned"].generate
    options = models.generate_options(job) | {"streamer": times}
    generate(inputs["input_ids"], max_new_tokens=job.max_tokens, **options)
    taken = [after - before for before, after in zip(times.seen, times.seen[1:], strict=False)]
    return _quarters([(seconds, 1) for seconds in taken[-job.max_tokens :]])


def our_quarters(llm: SwitchLLM, prompt: str, *, seed: int) -> tuple[float, float]:
    """Return the same of a switched response: decisions, hand-overs and all."""
    seen = [time.perf_counter()]
    trace = None
    stream: Any = llm.graph.stream(
        {"queries": [{"query": prompt, "seed": seed}]},
        {"recursion_limit": 10_000},
        stream_mode="custom",
    )
    for event in stream:
        if event["type"] == "segment":
            seen.append(time.perf_counter())
        if event["type"] == "end":
            trace = Trace.from_json(event["data"])
    if trace is None:
        raise RuntimeError("the response did not end")
    taken = [after - before for before, after in itertools.pairwise(seen)]
    sizes = [len(segment.token_ids) for segment in trace.segments]
    return _quarters(list(zip(taken, sizes, strict=True)))


def _quarters(parts: list[tuple[float, int]]) -> tuple[float, float]:
    quarter = len(parts) // 4
    return _ms_per_token(parts[:quarter]), _ms_per_token(parts[-quarter:])


def _ms_per_token(parts: list[tuple[float, int]]) -> float:
    return 1e3 * sum(seconds for seconds, _ in parts) / sum(tokens for _, tokens in parts)


if __name__ == "__main__":
    main()
