"""Text that has to follow a grammar: which tokens may come next, row by row (llguidance).

Knows nothing of models, candidates or where grammars come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from langgraph_switch.engines.tokenizer import HFTokenizer, Tokenizer
from langgraph_switch.errors import EngineError, InputError, MissingExtraError

if TYPE_CHECKING:
    from transformers.tokenization_utils_tokenizers import TokenizersBackend

try:
    import llguidance
    import llguidance.hf
    import llguidance.torch
except ImportError as err:  # An extra; asking for a grammar without it is refused, with this.
    llguidance: Any = None  # type: ignore[no-redef]
    _IMPORT_ERROR: ImportError | None = err


class GrammarVocabulary:
    """A tokenizer as grammars know it; made once per engine, which takes about a second."""

    def __init__(
        self, tokenizer: Tokenizer, *, vocab_size: int, eos_token_ids: Sequence[int], name: str
    ) -> None:
        """Read a vocabulary.

        Raises:
            MissingExtraError: llguidance is not installed.
            EngineError: The tokenizer is of a kind that it cannot read.
        """
        if llguidance is None:
            raise MissingExtraError("Constrained decoding", extra="structured") from _IMPORT_ERROR
        if not isinstance(tokenizer, HFTokenizer):
            raise EngineError(f"{name!r} has a tokenizer that grammars cannot read.")
        try:
            self.tokenizer = llguidance.hf.from_tokenizer(
                cast("TokenizersBackend", tokenizer.backend),
                n_vocab=vocab_size,
                eos_token=list(eos_token_ids) or None,
            )
        except ValueError as err:
            raise EngineError(
                f"The tokenizer of {name!r} cannot be constrained: {err}",
                hint="use a checkpoint with a fast tokenizer (tokenizer.json)",
            ) from err


class RowGrammar:
    """One row's place in its grammar."""

    def __init__(self, vocabulary: GrammarVocabulary, grammar: str, written: Sequence[int]) -> None:
        """Go to behind what is written.

        Raises:
            InputError: It is no grammar.
            EngineError: What is written does not follow it.
        """
        self._matcher = llguidance.LLMatcher(vocabulary.tokenizer, grammar)
        if problem := self._matcher.get_error():
            raise InputError(f"This is no grammar: {problem}", hint="see llguidance's Lark syntax")
        if written and not self._matcher.consume_tokens(list(written)):
            raise EngineError("The response does not follow its grammar.")

    @property
    def is_complete(self) -> bool:
        """Whether nothing may follow any more."""
        return bool(self._matcher.is_stopped())

    def accept(self, token_id: int) -> None:
        """Go on behind a token."""
        self._matcher.consume_token(token_id)

    def fill(self, mask: Tensor, row: int) -> None:
        """Write which tokens may follow into a row of a bit mask."""
        llguidance.torch.fill_next_token_bitmask(self._matcher, mask, row)


class GrammarMask:
    """Takes out of a batch's logits what its rows' grammars do not allow."""

    def __init__(self, grammars: Sequence[RowGrammar | None], vocab_size: int) -> None:
        self._grammars = grammars
        is_needed = any(grammar is not None for grammar in grammars)
        self._mask = (
            llguidance.torch.allocate_token_bitmask(len(grammars), vocab_size)
            if is_needed
            else None
        )

    def apply(self, logits: Tensor) -> Tensor:
        """Return the logits, what may not follow at minus infinity."""  # [B, V] -> [B, V]
        if self._mask is None:
            return logits
        self._mask.fill_(-1)  # All bits: rows without a grammar are free.
        for row, grammar in enumerate(self._grammars):
            if grammar is not None and not grammar.is_complete:
                grammar.fill(self._mask, row)
        bits = torch.arange(32, dtype=torch.int32)
        allowed = (self._mask.unsqueeze(-1) >> bits & 1).bool().flatten(1)[:, : logits.shape[-1]]
        return logits.masked_fill(~allowed.to(logits.device), -torch.inf)
