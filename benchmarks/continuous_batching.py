"""Which engine continues prefixes: our loop over rows, or transformers' continuous batching?

Both write the same segments: `--traces` traces of one random-weight llama, each growing by
`--segments` segments of 50 greedy tokens, the whole prefix passed every time. Prints tokens per
second (median of paired runs) and whether the tokens are the same.

    python benchmarks/continuous_batching.py --threads 1
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from switchbench.models import SIZES, make_model, make_tokenizer, num_parameters
from transformers import ContinuousBatchingConfig, GenerationConfig, PreTrainedModel

from langgraph_switch.engines.base import GenerateRequest
from langgraph_switch.engines.byte_tokenizer import ByteTokenizer
from langgraph_switch.engines.models import SharedModel
from langgraph_switch.engines.transformers_engine import TransformersEngine

SEGMENT_TOKENS = 50
PAGE_TOKENS = 16
Traces = list[list[int]]
Continue = Callable[[Traces], list[Sequence[int]]]


def main() -> None:
    """Run both engines on 1, 3 and 8 traces and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--segments", type=int, default=8)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = make_model(SIZES["5M"], make_tokenizer(), seed=0)
    print(f"{num_parameters(model) / 1e6:.1f} M parameters, ", end="")
    print(f"{args.threads} thread(s), segments of {SEGMENT_TOKENS} tokens")
    print("traces  rows tok/s  continuous batching tok/s  ratio  same tokens")
    with batching_manager(model) as manager:
        engines = (rows_engine(model), through(manager))
        for num_traces in (1, 3, 8):
            prompts = [[7 + i, *range(10, 90)] for i in range(num_traces)]
            runs = [
                [run(prompts, engine, args.segments) for engine in engines]
                for _ in range(args.repeats)
            ]
            total = num_traces * args.segments * SEGMENT_TOKENS
            rows, batching = (
                total / statistics.median(both[i][0] for both in runs) for i in range(2)
            )
            is_same = all(ours[1] == theirs[1] for ours, theirs in runs)
            print(f"{num_traces:6}  {rows:10.0f}  {batching:25.0f}  ", end="")
            print(f"{rows / batching:5.2f}  {is_same}", flush=True)


def rows_engine(model: PreTrainedModel) -> Continue:
    """Return our engine as a function from prefixes to their next segments."""
    engine = TransformersEngine(
        SharedModel(model, source="random llama", tokenizer=ByteTokenizer()), ByteTokenizer()
    )

    def proceed(traces: Traces) -> list[Sequence[int]]:
        requests = [
            GenerateRequest(
                row=str(index),
                prefix=trace,
                response_start=len(trace),
                max_new_tokens=SEGMENT_TOKENS,
            )
            for index, trace in enumerate(traces)
        ]
        return [continuation.token_ids for continuation in engine.generate(requests)]

    return proceed


def batching_manager(model: PreTrainedModel) -> Any:
    """Return transformers' continuous batching with prefix sharing, ready to enter."""
    greedy = GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=SEGMENT_TOKENS, do_sample=False, eos_token_id=-1, pad_token_id=0
    )
    start: Any = model.continuous_batching_context_manager
    return start(
        generation_config=greedy,
        continuous_batching_config=ContinuousBatchingConfig(
            page_size=PAGE_TOKENS, num_blocks=512, max_batch_tokens=512, allow_block_sharing=True
        ),
        warmup=False,
    )


def through(manager: Any) -> Continue:
    """Return continuous batching as a function from prefixes to their next segments."""

    def proceed(traces: Traces) -> list[Sequence[int]]:
        ids = [manager.add_request(t, max_new_tokens=SEGMENT_TOKENS) for t in traces]
        done: dict[str, list[int]] = {}
        while len(done) < len(ids):
            if result := manager.get_result(timeout=1):
                done[result.request_id] = result.generated_tokens
        return [done[request_id] for request_id in ids]

    return proceed


def run(prompts: Traces, proceed: Continue, num_segments: int) -> tuple[float, Traces]:
    """Return the seconds and the traces of one run."""
    traces = [list(prompt) for prompt in prompts]
    started = time.perf_counter()
    for _ in range(num_segments):
        for trace, new in zip(traces, proceed(traces), strict=True):
            trace.extend(new)
    return time.perf_counter() - started, traces


if __name__ == "__main__":
    main()
