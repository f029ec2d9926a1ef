"""A batch whose rows use different adapters of one base. Knows nothing of how they are computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from langgraph_switch.engines.batch import RowBatch

if TYPE_CHECKING:
    from langgraph_switch.engines.adapter_stack import RowAdapters


class MixedRowBatch(RowBatch):
    """Rows that are dropped take their adapters along."""

    def __init__(self, *args: Any, adapters: RowAdapters, **kwargs: Any) -> None:
        """Lay rows side by side, as `RowBatch` does.

        Args:
            *args: What `RowBatch` takes.
            adapters: Each row's adapter, in use while the batch is at work.
            **kwargs: What `RowBatch` takes.
        """
        super().__init__(*args, **kwargs)
        self._adapters = adapters

    def keep(self, positions: Sequence[int], tokens: Sequence[Sequence[int]]) -> None:
        """Drop all rows but those at `positions`; `tokens` is what every row generated."""
        super().keep(positions, tokens)
        self._adapters.select(positions)
