"""`ScriptedEngine`: an engine that writes what it is told to, for tests and examples.

It obeys every rule of the contract (token limits, EOS, stop strings, incomplete characters), so
whatever is built on engines can be tested without a model. Needs no torch.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, repeat
from typing import TypeAlias

from langgraph_switch.engines.base import Continuation, GenerateRequest, LabelRequest, OnToken
from langgraph_switch.engines.byte_tokenizer import EOS_ID, ByteTokenizer
from langgraph_switch.engines.decoding import RowProgress
from langgraph_switch.engines.tokenizer import Tokenizer
from langgraph_switch.errors import ContextLengthError, InputError

Script: TypeAlias = Sequence[str | Exception] | Callable[[str], str]
LabelScript: TypeAlias = Sequence[Sequence[float]] | Callable[[str], Sequence[float]]


class ScriptedEngine:
    """Plays a model whose words are known in advance.

    `texts` is what it writes, one text per request in the order of requests, or a function from
    the prefix's text to the new text. A text longer than the tokens asked for is cut; behind a
    shorter one the model emits EOS, or, where EOS is masked or ends nothing, blanks. An exception
    among the texts is raised. `labels` works alike for the probabilities of labels.

    Example:
        ```python
        poet = ScriptedEngine(texts=lambda prefix: " and on")
        clerk = ScriptedEngine(texts=["It is 32."])
        llm = SwitchLLM(config=config, engines={"pretrained": poet, "aligned": clerk})
        ```

    Attributes:
        calls: Every batch of requests it was asked for, in order.
    """

    def __init__(
        self,
        texts: Script = (),
        *,
        labels: LabelScript = (),
        tokenizer: Tokenizer | None = None,
        eos_token_ids: tuple[int, ...] = (EOS_ID,),
        vocab_size: int = 2**20,
        max_context_tokens: int = 2**20,
        name: str = "scripted",
    ) -> None:
        self.calls: list[Sequence[GenerateRequest] | Sequence[LabelRequest]] = []
        self._tokenizer = tokenizer or ByteTokenizer()
        self._eos_token_ids = eos_token_ids
        self._vocab_size = vocab_size
        self._max_context_tokens = max_context_tokens
        self._name = name
        self._texts = texts
        self._labels = labels
        self._num_texts = self._num_labels = 0
        self._lock = threading.Lock()
        self.released: list[str] = []

    @property
    def name(self) -> str:
        """What to call the model in messages."""
        return self._name

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer it was made with."""
        return self._tokenizer

    @property
    def vocab_size(self) -> int:
        """How many token ids the model knows."""
        return self._vocab_size

    @property
    def max_context_tokens(self) -> int:
        """Most tokens of prompt and response together."""
        return self._max_context_tokens

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """Tokens that end a turn."""
        return self._eos_token_ids

    def generate(
        self, requests: Sequence[GenerateRequest], on_token: OnToken | None = None
    ) -> list[Continuation]:
        """Write the next texts of the script.

        Raises:
            ContextLengthError: A prefix and its new tokens exceed the context.
            InputError: The script has no more texts.
        """
        self.calls.append(requests)
        results = []
        for index, request in enumerate(requests):
            self._check_context(len(request.prefix) + request.max_new_tokens)
            progress = RowProgress(index, request, self._tokenizer, on_token)
            tokens = self._tokens(self._next_text(request.prefix), request)
            while not progress.is_finished:
                progress.accept(next(tokens))
            results.append(
                progress.continuation(cached_tokens=0, prefill_tokens=len(request.prefix))
            )
        return results

    def label_logprobs(self, requests: Sequence[LabelRequest]) -> list[tuple[float, ...]]:
        """Return the logarithms of the script's next probabilities.

        Raises:
            InputError: The script has no more probabilities, or not one per label.
        """
        self.calls.append(requests)
        results = []
        for request in requests:
            given = self._next_labels(request.prefix)
            if len(given) != len(request.labels):
                raise InputError(
                    f"{self.name!r} is scripted with {len(given)} probabilities for "
                    f"{len(request.labels)} labels.",
                    hint="give one per candidate",
                )
            results.append(tuple(math.log(p) if p > 0 else -math.inf for p in given))
        return results

    def release(self, rows: Iterable[str]) -> None:
        """Note that rows were released."""
        self.released.extend(rows)

    def _tokens(self, text: str, request: GenerateRequest) -> Iterator[int]:
        blank = self._tokenizer.encode(" ")[0]
        eos = next((i for i in self._eos_token_ids if i in request.eos_token_ids), blank)
        return chain(self._tokenizer.encode(text), repeat(eos))

    def _next_text(self, prefix: Sequence[int]) -> str:
        if callable(self._texts):
            return self._texts(self._tokenizer.decode(prefix))
        with self._lock:
            index, self._num_texts = self._num_texts, self._num_texts + 1
        if index >= len(self._texts):
            raise InputError(
                f"The script of {self.name!r} has only {index} texts.", hint="give it more"
            )
        text = self._texts[index]
        if isinstance(text, Exception):
            raise text
        return text

    def _next_labels(self, prefix: Sequence[int]) -> Sequence[float]:
        if callable(self._labels):
            return self._labels(self._tokenizer.decode(prefix))
        with self._lock:
            index, self._num_labels = self._num_labels, self._num_labels + 1
        if index >= len(self._labels):
            raise InputError(
                f"The script of {self.name!r} has only {index} label rows.", hint="give it more"
            )
        return self._labels[index]

    def _check_context(self, num_tokens: int) -> None:
        if num_tokens > self._max_context_tokens:
            raise ContextLengthError(
                self._name,
                num_tokens=num_tokens,
                max_tokens=self._max_context_tokens,
                hint="shorten the query, or lower max_tokens",
            )
