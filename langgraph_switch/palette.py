"""One colour per candidate, the same on the terminal, in reports and in the playground.

Okabe and Ito's colours, which colour-blind people tell apart.
"""

from __future__ import annotations

from collections.abc import Sequence

PALETTE = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#D55E00", "#F0E442", "#0072B2")


def color_of(names: Sequence[str]) -> dict[str, str]:
    """Return every candidate's colour."""
    return {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(names)}
