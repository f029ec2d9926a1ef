"""Where every random draw of a response comes from.

A draw depends on (run seed, trace id, segment index, purpose) alone, never on the batch, the
order of calls or earlier draws, so a resumed or re-batched run repeats itself exactly.
This module knows nothing of models or torch.
"""

from __future__ import annotations

import hashlib
import random
import secrets

MAX_SEED = 2**63 - 1


def derive_seed(seed: int, trace_id: str, segment_index: int, purpose: str) -> int:
    """Return the seed in [0, 2**63) of one draw of one segment."""
    key = f"{seed}\x1f{trace_id}\x1f{segment_index}\x1f{purpose}".encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") & MAX_SEED


def derive_uniform(seed: int, trace_id: str, segment_index: int, purpose: str) -> float:
    """Return one uniform draw in [0, 1) for one segment."""
    return random.Random(derive_seed(seed, trace_id, segment_index, purpose)).random()  # noqa: S311


def fresh_seed() -> int:
    """Return an unpredictable run seed, for a call that names none."""
    return secrets.randbelow(2**31)


def content_id(text: str) -> str:
    """Return the default trace id of a query: equal queries draw equal numbers."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
