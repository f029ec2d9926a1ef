"""What does switching cost when a head on the anchor decides, and no model of its own?

One response of 512 tokens by three random-weight llamas; an untrained linear head draws the
speakers. Paired with one model's `generate()`.

    python benchmarks/head_switcher.py --keep     # about 3 minutes with one thread
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from switchbench.contestants import NAMES, Job, Models, Plain, make_config
from switchbench.models import SIZES
from switchbench.records import keep
from switchbench.timing import set_threads

from langgraph_switch import SwitchLLM
from langgraph_switch.switchers.head_model import HeadConfig, SwitcherHead

LIMIT = 1.15


def main() -> None:
    """Measure pairs and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=list(SIZES), default="90M")
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--keep", action="store_true", help="write the figures into records.json")
    args = parser.parse_args()
    machine = set_threads(1, pin=True)
    models = Models(SIZES[args.size], seed=1)
    job = Job(models.prompts(1, seed=1), args.tokens, 50, greedy=False, seed=1)
    with tempfile.TemporaryDirectory() as folder:
        llm = make_llm(models, job, Path(folder))
        llm.invoke(job.prompts[0], max_tokens=60)
        plain = Plain(models)
        pairs = []
        for seed in range(args.pairs):
            plain_s = plain.run(job).wall_s
            started = time.perf_counter()
            llm.invoke(job.prompts[0], seed=seed)
            ours_s = time.perf_counter() - started
            pairs.append({"generate_s": plain_s, "ours_s": ours_s, "ratio": ours_s / plain_s})
            print(f"generate() {plain_s:.1f} s, ours {ours_s:.1f} s: {ours_s / plain_s:.2f}")
    ratio = statistics.median(pair["ratio"] for pair in pairs)
    print(f"ours with a head / generate(): {ratio:.2f} (at most {LIMIT})")
    if args.keep:
        found = {"tokens": args.tokens, "size": args.size, "pairs": pairs, "ratio": ratio}
        keep("head_switcher", found | {"limit": LIMIT, "machine": machine})


def make_llm(models: Models, job: Job, folder: Path) -> SwitchLLM:
    """Return a switch whose anchor carries an untrained head."""
    head = HeadConfig(
        kind="linear",
        hidden_size=models.size.hidden,
        candidates=NAMES,
        reads="aligned",
        model="aligned",
    )
    SwitcherHead(head).save(folder)
    config = make_config(job).with_changes(switcher={"kind": "head", "head": str(folder)})
    return SwitchLLM(config=config, engines={name: models.engine(name) for name in NAMES})


if __name__ == "__main__":
    main()
