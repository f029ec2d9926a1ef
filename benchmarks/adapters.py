"""One base, many speakers: three adapters taking turns against one model's `generate()`.

A random-weight llama of about 5 M parameters, and three random LoRA adapters on it (ranks 8 and
16) as candidates. Paired runs: (a) plain `generate()` of the base, all prompts as one batch;
(b) the switch through the loop that rollouts and evaluation use, speakers drawn at random, all
rows of a step in one pass; (c) the same with one pass per speaker. Greedy. Downloads nothing.

    python benchmarks/adapters.py                                  # 64 traces, 256 tokens
    python benchmarks/adapters.py --pairs 1 --tokens 100           # a quick look
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from tempfile import TemporaryDirectory
from unittest import mock

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from peft import LoraConfig, get_peft_model
from switchbench.models import SIZES, make_model, make_prompts, make_tokenizer
from switchbench.records import keep
from switchbench.timing import set_threads
from transformers import PreTrainedModel

from langgraph_switch.config import SwitchConfig
from langgraph_switch.loop import finish_traces
from langgraph_switch.queries import trace_from_query
from langgraph_switch.switch import Switch
from langgraph_switch.switchers.base import Turn

RANKS = (8, 16, 16)
SEGMENT_TOKENS = 50
TARGET = 1.3


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--traces", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--keep", action="store_true", help="write the figures into records.json")
    options = parser.parse_args()
    machine = set_threads(options.threads, pin=True)
    tokenizer = make_tokenizer()
    prompts = make_prompts(tokenizer, options.traces, seed=1)
    plain = make_model(SIZES["5M"], tokenizer, seed=1)
    with TemporaryDirectory() as folder:
        config = _save_family(folder, options.tokens)
        switch = Switch(config)
    runs: dict[str, list[float]] = {"generate": [], "one pass": [], "pass per speaker": []}
    for pair in range(options.pairs + 1):
        contestants: dict[str, Callable[[], int]] = {
            "generate": partial(_generate, plain, prompts, options.tokens),
            "one pass": partial(_switched, switch, prompts, pair, is_shared=True),
            "pass per speaker": partial(_switched, switch, prompts, pair, is_shared=False),
        }
        for name, run in contestants.items():
            started = time.perf_counter()
            written = run()
            if written != options.traces * options.tokens:
                raise RuntimeError(f"{name} wrote {written} tokens")
            if pair > 0:  # The first is a warm-up.
                runs[name].append(time.perf_counter() - started)
    print(f"{machine['cpu']}, {machine['threads']} thread(s), commit {machine['commit']}")
    print(f"{options.traces} traces, {options.tokens} tokens, segments of {SEGMENT_TOKENS}")
    for name, seconds in runs.items():
        ratios = [a / b for a, b in zip(seconds, runs["generate"], strict=True)]
        median, ratio = statistics.median(seconds), statistics.median(ratios)
        print(f"{name:>17}: {median:6.1f} s, {ratio:.2f} x generate()")
    print(f"target: one pass at most {TARGET} x generate()")
    if options.keep:
        pairs = zip(runs["one pass"], runs["generate"], strict=True)
        found = {"traces": options.traces, "tokens": options.tokens, "seconds": runs}
        found["ratio"] = statistics.median(a / b for a, b in pairs)
        keep("adapters", found | {"limit": TARGET, "machine": machine})


def _generate(model: PreTrainedModel, prompts: Sequence[str], num_tokens: int) -> int:
    tokenizer = make_tokenizer()
    inputs = tokenizer(list(prompts), return_tensors="pt", padding=True)
    with torch.inference_mode():
        output = model.generate(  # type: ignore[operator]
            inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            min_new_tokens=num_tokens,
            max_new_tokens=num_tokens,
            do_sample=False,
        )
    return int((output.shape[1] - inputs["input_ids"].shape[1]) * len(prompts))


def _switched(switch: Switch, prompts: Sequence[str], seed: int, *, is_shared: bool) -> int:
    turns = [
        Turn(trace_from_query({"query": one, "seed": seed}, switch.config), f"{seed}/{i}")
        for i, one in enumerate(prompts)
    ]
    if is_shared:
        traces = finish_traces(switch, turns)
    else:
        alone = "langgraph_switch.engines.sharing.groups"
        with mock.patch(alone, lambda engines: [[i] for i in range(len(engines))]):
            traces = finish_traces(switch, turns)
    return sum(len(segment.token_ids) for trace in traces for segment in trace.segments)


def _save_family(folder: str, num_tokens: int) -> SwitchConfig:
    tokenizer = make_tokenizer()
    make_model(SIZES["5M"], tokenizer, seed=1).save_pretrained(f"{folder}/base")
    tokenizer.save_pretrained(f"{folder}/base")
    for index, rank in enumerate(RANKS):
        config = LoraConfig(
            r=rank, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM"
        )
        model = get_peft_model(make_model(SIZES["5M"], tokenizer, seed=1), config)
        model.save_pretrained(f"{folder}/a{index}")
    names = [f"a{index}" for index in range(len(RANKS))]
    return SwitchConfig.from_dict(
        {
            "candidates": [
                {
                    "name": name,
                    "model": f"{folder}/base",
                    "adapter": f"{folder}/{name}",
                    "prompt": {"kind": "plain", "plain_template": "{query}"},
                    "eos": "mask",
                }
                for name in names
            ],
            "switcher": {"kind": "random"},
            "anchor": {"first": False, "last": False},
            "segment": {"max_tokens": SEGMENT_TOKENS},
            "max_tokens": num_tokens,
            "sampling": {"temperature": 0},
            "limits": {"live_traces": 256},
        }
    )


if __name__ == "__main__":
    main()
