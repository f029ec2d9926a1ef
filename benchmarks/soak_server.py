"""One server of the soak test, in a process of its own: it recites, and it breaks as told.

python benchmarks/soak_server.py --port 8100 --seed 1 (started by soak.py)
"""

from __future__ import annotations

import argparse
import random
import time

from switchbench.stories import ChunkTokenizer, rest_of_story

from langgraph_switch.engines.scripted import ScriptedEngine
from tests.remote.stand_in_server import Fault, StandInServer

MODEL = "recital"
_CUTS_BYTES = (0, 200, 700, 1500, 4000)
_FOREVER = 10**9


def faults(seed: int, *, cut_share: float, burst_every_s: float, burst_s: float) -> list[Fault]:
    """Return what goes wrong: answers cut at several places, and seconds of 429."""
    draw = random.Random(seed)  # noqa: S311
    offset_s = seed * 5.0  # Not all servers at the same time.

    def is_busy() -> bool:
        return burst_every_s > 0 and (time.time() + offset_s) % burst_every_s < burst_s

    def is_cut() -> bool:
        return draw.random() < cut_share / len(_CUTS_BYTES)

    busy = Fault(status=429, headers={"Retry-After": "0.5"}, times=_FOREVER, when=is_busy)
    cuts = [Fault(cut_after=size, times=_FOREVER, when=is_cut) for size in _CUTS_BYTES]
    return [busy, *cuts]


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cut-share", type=float, default=0.05)
    parser.add_argument("--burst-every-s", type=float, default=15.0)
    parser.add_argument("--burst-s", type=float, default=1.0)
    options = parser.parse_args()
    engine = ScriptedEngine(
        rest_of_story,
        tokenizer=ChunkTokenizer(),
        eos_token_ids=(ChunkTokenizer.eos_id,),
        vocab_size=ChunkTokenizer.vocab_size,
    )
    server = StandInServer({MODEL: engine}, port=options.port)
    server.faults = faults(
        options.seed,
        cut_share=options.cut_share,
        burst_every_s=options.burst_every_s,
        burst_s=options.burst_s,
    )
    while True:  # What the stand-in notes for tests would only grow here.
        time.sleep(1)
        for notes in (server.requests, server.authorizations, engine.calls, engine.released):
            notes.clear()


if __name__ == "__main__":
    main()
