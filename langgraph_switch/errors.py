"""Errors that say who must act, why, and what to type next.

The class says who must act: the author of the configuration (`ConfigError`), the caller
(`InputError`), whoever provides models (`ModelLoadError`), or the machine (`EngineError`).
This module knows nothing of models, graphs or LangChain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langgraph_switch.trace import Trace


class SwitchError(Exception):
    """Base of every error that this package raises on purpose.

    Attributes:
        message: What is wrong, and why.
        hint: What to do about it, as an instruction; empty when nothing can be done.
        retryable: Whether the same call may succeed later without a change.
    """

    def __init__(self, message: str, *, hint: str = "", retryable: bool = False) -> None:
        super().__init__(f"{message}\n  Fix: {hint}" if hint else message)
        self.message = message
        self.hint = hint
        self.retryable = retryable

    def __reduce__(self) -> tuple[Any, ...]:
        """Let errors of every constructor reach another process whole."""
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(kind: type[SwitchError], args: tuple[Any, ...], fields: dict[str, Any]) -> SwitchError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(fields)
    return error


class ConfigError(SwitchError, ValueError):
    """A configuration is malformed or contradicts itself: its author must act."""


class InputError(SwitchError, ValueError):
    """A call's input cannot be served as it is: the caller must act."""


class ContextLengthError(InputError):
    """A prompt and the response asked for do not fit into a model's context.

    Attributes:
        model: Name of the candidate or switcher whose context is too short.
        num_tokens: Tokens needed, prompt and response together.
        max_tokens: Tokens that the model's context holds.
    """

    def __init__(self, model: str, *, num_tokens: int, max_tokens: int, hint: str) -> None:
        over = num_tokens - max_tokens
        super().__init__(
            f"{model!r} needs {num_tokens} tokens of context but holds {max_tokens}: "
            f"{over} too many.",
            hint=hint,
        )
        self.model = model
        self.num_tokens = num_tokens
        self.max_tokens = max_tokens


class MissingExtraError(SwitchError, ImportError):
    """An optional dependency is needed and not installed."""

    def __init__(self, what: str, *, extra: str) -> None:
        super().__init__(
            f"{what} needs an optional dependency that is not installed.",
            hint=f"pip install 'langgraph-switch[{extra}]'",
        )
        self.extra = extra


class ModelLoadError(SwitchError):
    """A model, adapter or tokenizer cannot be loaded: its provider must act.

    Attributes:
        source: The repo id or path that was asked for.
    """

    def __init__(
        self, source: str, problem: str, *, hint: str = "", retryable: bool = False
    ) -> None:
        super().__init__(f"Cannot load {source!r}: {problem}", hint=hint, retryable=retryable)
        self.source = source


class UnsafeWeightsError(ModelLoadError):
    """A model wants pickled weights or code of its own; both are refused."""


class EngineError(SwitchError):
    """An engine failed while it was working.

    Attributes:
        retry_after_s: Seconds for which a server has asked to be left alone, if it has.
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        retryable: bool = False,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, hint=hint, retryable=retryable)
        self.retry_after_s = retry_after_s


class EngineOutOfMemoryError(EngineError):
    """A device ran out of memory in the middle of the work."""


class GenerationError(SwitchError):
    """A response broke off; what had been written is kept.

    Attributes:
        traces: Every trace of the call as far as it came, finished ones included.
    """

    def __init__(
        self, message: str, *, traces: Sequence[Trace], hint: str = "", retryable: bool = False
    ) -> None:
        super().__init__(message, hint=hint, retryable=retryable)
        self.traces = tuple(traces)
