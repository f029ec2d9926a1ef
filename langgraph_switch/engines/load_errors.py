"""Why a model, an adapter or a repo cannot be had, and what to do about it: one table.

Serves everything that loads or transfers. Knows nothing of torch or of what is loaded.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx2
from huggingface_hub import errors as hub_errors

from langgraph_switch.errors import ModelLoadError, SwitchError, UnsafeWeightsError

_LOGIN = "run: hf auth login (or set HF_TOKEN)"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_DENIED = {401, 403}
_BUSY = 429
_SERVER_FAULT = 500


@dataclass(frozen=True, slots=True)
class _Failure:
    """An error with everything that led to it."""

    source: str
    revision: str | None
    chain: tuple[BaseException, ...]

    @property
    def text(self) -> str:
        return " ".join(str(one) for one in self.chain)

    @property
    def status(self) -> int | None:
        """The HTTP status with which the Hub answered, if it did."""
        for one in self.chain:
            if isinstance(one, hub_errors.HfHubHTTPError | httpx2.HTTPStatusError):
                return int(one.response.status_code)
        return None

    def is_a(self, *kinds: type[BaseException]) -> bool:
        return any(isinstance(one, kinds) for one in self.chain)

    @property
    def is_full_disk(self) -> bool:
        return any(isinstance(one, OSError) and one.errno == errno.ENOSPC for one in self.chain)

    def error(self, problem: str, hint: str, *, retryable: bool = False) -> ModelLoadError:
        return ModelLoadError(self.source, problem, hint=hint, retryable=retryable)

    def unsafe(self, problem: str, hint: str) -> ModelLoadError:
        return UnsafeWeightsError(self.source, problem, hint=hint)


def _no_revision(failure: _Failure) -> ModelLoadError:
    revision = failure.revision
    if revision is not None and _COMMIT.fullmatch(revision):
        return failure.error(
            f"its commit {revision[:8]} no longer exists: the repo was rewritten since.",
            "ask its author which commit replaces it; for a candidate of a switch, name another "
            "model: candidates={...}",
        )
    named = f" {revision!r}" if revision else ""
    return failure.error(f"it has no such revision{named}.", "check --revision (`revision`)")


def _is_offline(failure: _Failure) -> bool:
    return (
        failure.is_a(
            hub_errors.OfflineModeIsEnabled,
            hub_errors.LocalEntryNotFoundError,
            httpx2.TransportError,
        )
        or "connect to" in failure.text
    )


# In this order; the first that holds explains.
_TABLE: tuple[
    tuple[Callable[[_Failure], bool], Callable[[_Failure], ModelLoadError]],
    ...,
] = (
    (
        lambda f: f.is_full_disk,
        lambda f: f.error("the disk is full.", "make room, or point HF_HOME to another disk"),
    ),
    (
        lambda f: "trust_remote_code" in f.text,
        lambda f: f.unsafe(
            "it wants to run code of its own, which is refused.",
            "use a checkpoint whose architecture transformers knows; or, if you have read its "
            "code, allow it by its candidate's name: trust_remote_code=['NAME'] "
            "(--trust-remote-code NAME)",
        ),
    ),
    (
        lambda f: f.is_a(hub_errors.GatedRepoError),
        lambda f: f.error(
            "the repo is gated.",
            f"accept its licence at https://huggingface.co/{f.source}, then {_LOGIN}",
        ),
    ),
    (lambda f: f.is_a(hub_errors.RevisionNotFoundError), _no_revision),
    (
        lambda f: f.is_a(hub_errors.RepositoryNotFoundError) or f.status in _DENIED,
        lambda f: f.error(
            "there is no such repo, or it is private and your token may not see or write it.",
            f"check the name; if it is private or yours, {_LOGIN}",
        ),
    ),
    (
        lambda f: f.is_a(hub_errors.RemoteEntryNotFoundError),
        lambda f: f.error("it lacks a file.", "check that it is a model or a switch"),
    ),
    (
        lambda f: f.status == _BUSY,
        lambda f: f.error(
            "the Hub has had too many requests of yours.",
            f"wait a few minutes; with a token there may be more: {_LOGIN}",
            retryable=True,
        ),
    ),
    (
        lambda f: (f.status or 0) >= _SERVER_FAULT,
        lambda f: f.error(
            f"the Hub has a fault of its own (status {f.status}).",
            "try again later; what has arrived is kept",
            retryable=True,
        ),
    ),
    (
        _is_offline,
        lambda f: f.error(
            "it is not in the local cache and the Hub cannot be reached.",
            "go online (unset HF_HUB_OFFLINE), or name a local folder; what has arrived is kept",
            retryable=True,
        ),
    ),
    (
        lambda f: f.is_a(hub_errors.HFValidationError),
        lambda f: f.error("this is no name of a repo.", "write it like user/my-switch"),
    ),
    (
        lambda f: (
            "safetensors" in f.text and ("no file named" in f.text or "does not appear" in f.text)
        ),
        lambda f: f.unsafe(
            "it has no safetensors weights; pickled ones are refused, for they can run code.",
            "convert it: load it once in a safe place and call save_pretrained(folder)",
        ),
    ),
)


def load_error(source: str, err: BaseException, *, revision: str | None = None) -> SwitchError:
    """Return the error that says what went wrong with a source, and what to do.

    Args:
        source: Repo or folder, as the user knows it.
        err: What was raised.
        revision: What was asked of the repo.
    """
    if isinstance(err, SwitchError):
        return err
    chain: list[BaseException] = []
    link: BaseException | None = err
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    failure = _Failure(source, revision, tuple(chain))
    for holds, explain in _TABLE:
        if holds(failure):
            return explain(failure)
    return ModelLoadError(source, f"{type(err).__name__}: {first_line(err)}")


@contextmanager
def load_failures(source: str, revision: str | None = None) -> Iterator[None]:
    """Turn whatever the Hub's client raises into an error that says who must act.

    Raises:
        ModelLoadError: With what went wrong, and what to do.
    """
    try:
        yield
    except (
        hub_errors.HfHubHTTPError,
        hub_errors.OfflineModeIsEnabled,
        httpx2.HTTPError,
        OSError,
        ValueError,
    ) as err:
        raise load_error(source, err, revision=revision) from err


def first_line(err: BaseException) -> str:
    """Return the first line of an error's message, or its type."""
    return next(iter(str(err).strip().splitlines()), type(err).__name__)
