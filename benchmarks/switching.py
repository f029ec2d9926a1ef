"""What does switching cost? Ours against one model's `generate()` and the published loop.

Makes random-weight llamas of about 5 M and 90 M parameters - three candidates and a switcher -
and lets three contestants write 512 tokens per prompt in segments of 50, in turns: (a) one model's
plain `generate()`; (b) the published loop, which tokenises and computes everything again for every
segment and decides by free text; (c) `SwitchLLM` through LangChain and LangGraph. Beside them it
measures this machine's rates for one model and predicts (c) from them (`switchbench/cost_model`).
Downloads nothing.

    python benchmarks/switching.py              # about 40 minutes with one thread
    python benchmarks/switching.py --quick      # under 2 minutes, 200 tokens, no large batch
    python benchmarks/switching.py --json results.json --markdown --check
    python benchmarks/switching.py --device cuda     # random-weight llamas of 1 B and 8 B, bfloat16

`--check`: exit code 1 if a promised limit is exceeded.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from rich.console import Console
from switchbench.contestants import Job, Models
from switchbench.models import CPU_SIZES, GPU_SIZES, SIZES
from switchbench.table import markdown, notes, rows, show, targets
from switchbench.timing import Case, CaseResult, import_seconds, measure, set_threads

SEGMENT_TOKENS = 50
QUICK_MAX_TOKENS = 200
IMPORT_REPEATS = 7
CASES = (
    Case("5M", batch=1, pairs=5, published_pairs=5),
    Case("5M", batch=1, pairs=3, published_pairs=1, max_tokens=2048),
    Case("5M", batch=8, pairs=3, published_pairs=1),
    Case("5M", batch=32, pairs=3, published_pairs=0),
    Case("90M", batch=1, pairs=3, published_pairs=2),
    Case("90M", batch=8, pairs=1, published_pairs=1),
)
GPU_CASES = (
    Case("1B", batch=1, pairs=3, published_pairs=1),
    Case("1B", batch=64, pairs=3, published_pairs=0),
    Case("8B", batch=1, pairs=3, published_pairs=1),
    Case("8B", batch=64, pairs=2, published_pairs=0),
    Case("8B", batch=192, pairs=1, published_pairs=0),
)
QUICK_CASES = tuple(
    Case(size, batch, pairs=1, published_pairs=1, max_tokens=QUICK_MAX_TOKENS)
    for size, batch in (("5M", 1), ("5M", 8), ("90M", 1))
)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, and say by the exit code whether the targets were met."""
    args = _parse(argv)
    machine = set_threads(args.threads, pin=args.pin) | {
        "greedy": args.greedy,
        "segment_tokens": SEGMENT_TOKENS,
    }
    progress = Console(stderr=True)
    imports = import_seconds(IMPORT_REPEATS)
    results: list[CaseResult] = []
    for size in args.sizes:
        models = Models(SIZES[size], seed=args.seed, device=args.device)
        for case in _cases(args):
            if case.size != size:
                continue
            job = Job(
                prompts=models.prompts(case.batch, seed=args.seed),
                max_tokens=case.max_tokens,
                segment_tokens=SEGMENT_TOKENS,
                greedy=args.greedy,
                seed=args.seed,
            )
            results.append(measure(models, case, job, progress.print))
    show(Console(width=None if sys.stdout.isatty() else 130), results, imports, machine)
    if args.markdown:
        print(markdown(results, machine))
    if args.json:
        _save(args.json, results, imports, machine)
    is_met = all(target.is_met for target in targets(results, imports))
    return 0 if is_met or not args.check else 1


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (1)")
    pin_help = "use as many processors as threads, all contestants alike (default)"
    parser.add_argument("--pin", action=argparse.BooleanOptionalAction, default=True, help=pin_help)
    parser.add_argument("--device", default="cpu", help="cuda: llamas of 1 B and 8 B in bfloat16")
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES))
    parser.add_argument("--batches", nargs="+", type=int)
    parser.add_argument("--tokens", type=int, help="tokens of every response (512, or 2,048)")
    parser.add_argument("--repeats", type=int, help="pairs of every case, (b) in each")
    parser.add_argument("--greedy", action="store_true", help="nobody samples tokens")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="one short pair of each but 90M x 8")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--markdown", action="store_true", help="print the README's table too")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a target is missed")
    args = parser.parse_args(argv)
    args.sizes = args.sizes or (CPU_SIZES if args.device == "cpu" else GPU_SIZES)
    return args


def _cases(args: argparse.Namespace) -> list[Case]:
    known = QUICK_CASES if args.quick else CASES if args.device == "cpu" else GPU_CASES
    known = tuple(case for case in known if case.size in args.sizes)
    if args.batches is None:
        cases = list(known)
    else:
        cases = [case for case in known if case.batch in args.batches]
        there = {(case.size, case.batch) for case in cases}
        missing = [one for one in product(args.sizes, args.batches) if one not in there]
        cases += [Case(size, batch, pairs=1, published_pairs=0) for size, batch in missing]
    if args.tokens:
        cases = list(dict.fromkeys(replace(case, max_tokens=args.tokens) for case in cases))
    if args.repeats:
        pairs = {"pairs": args.repeats, "published_pairs": args.repeats}
        cases = [replace(case, **pairs) for case in cases]
    return cases


def _save(
    path: Path, results: Sequence[CaseResult], imports: dict[str, float], machine: dict[str, Any]
) -> None:
    data = {
        "markdown": markdown(results, machine),
        "table": rows(results),
        "notes": notes(results, machine),
        "machine": machine,
        "cases": [result.to_json() for result in results],
        "import_s": imports,
        "targets": [asdict(t) | {"is_met": t.is_met} for t in targets(results, imports)],
    }
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
