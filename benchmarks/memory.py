"""Does anything grow over 1,000 responses?

The embedded family answers in batches; the process's memory after a fifth of them is compared with
that at the end, and nothing may be left in the engines.

    python benchmarks/memory.py --keep     # about 2 minutes with one thread
"""

from __future__ import annotations

import argparse
import gc
from pathlib import Path

from switchbench.records import keep
from switchbench.timing import set_threads

from langgraph_switch import SwitchLLM
from langgraph_switch.engines.transformers_engine import TransformersEngine

BATCH = 20
LIMIT = 1.02


def main() -> None:
    """Answer, and print what was held when."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--responses", type=int, default=1000)
    parser.add_argument("--keep", action="store_true", help="write the figures into records.json")
    args = parser.parse_args()
    machine = set_threads(1, pin=True)
    llm = SwitchLLM.embedded()
    held: list[int] = []
    for start in range(0, args.responses, BATCH):
        llm.batch([f"How many legs do {start + i} spiders have?" for i in range(BATCH)], seed=start)
        gc.collect()
        held.append(resident_bytes())
        print(f"{start + BATCH} responses: {held[-1] / 2**20:.0f} MiB")
    early, late = held[len(held) // 5], held[-1]
    engines = [candidate.engine for candidate in llm.switch.candidates.values()]
    rows = sum(one.num_rows for one in engines if isinstance(one, TransformersEngine))
    print(f"{late / early:.3f} of the memory after a fifth (at most {LIMIT}); {rows} rows left")
    if args.keep:
        found = {"responses": args.responses, "ratio": late / early, "rows_left": rows}
        keep("memory", found | {"resident_bytes": held, "limit": LIMIT, "machine": machine})


def resident_bytes() -> int:
    """Return the process's resident memory (Linux)."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096


if __name__ == "__main__":
    main()
