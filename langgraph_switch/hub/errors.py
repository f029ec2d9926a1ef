"""What went wrong between this machine and the Hub, and what to do about it.

Knows nothing of what is transferred.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import errors as hub_errors

from langgraph_switch.errors import ModelLoadError

_LOGIN = "run: hf auth login (or set HF_TOKEN)"
_UNAUTHORIZED, _FORBIDDEN = 401, 403


@contextmanager
def hub_failures(repo_id: str) -> Iterator[None]:
    """Turn whatever the Hub's client raises into an error that says who must act.

    Raises:
        ModelLoadError: With what went wrong, and what to do.
    """
    try:
        yield
    except (hub_errors.HfHubHTTPError, hub_errors.OfflineModeIsEnabled, OSError, ValueError) as err:
        raise _explained(repo_id, err) from err


def _explained(repo_id: str, err: Exception) -> ModelLoadError:  # noqa: PLR0911 - a table
    status = getattr(getattr(err, "response", None), "status_code", None)
    if isinstance(err, hub_errors.GatedRepoError):
        page = f"https://huggingface.co/{repo_id}"
        return ModelLoadError(
            repo_id, "the repo is gated.", hint=f"accept its licence at {page}, then {_LOGIN}"
        )
    if isinstance(err, hub_errors.RevisionNotFoundError):
        return ModelLoadError(repo_id, "it has no such revision.", hint="check --revision")
    if isinstance(err, hub_errors.RepositoryNotFoundError) or status in {
        _UNAUTHORIZED,
        _FORBIDDEN,
    }:
        return ModelLoadError(
            repo_id,
            "there is no such repo, or your token may not see or write it.",
            hint=f"check the name; if it is private or yours, {_LOGIN}",
        )
    if isinstance(err, hub_errors.OfflineModeIsEnabled | hub_errors.LocalEntryNotFoundError):
        return ModelLoadError(
            repo_id,
            "it is not in the local cache and the Hub cannot be reached.",
            hint="go online (unset HF_HUB_OFFLINE), or name a local folder",
            retryable=True,
        )
    if isinstance(err, OSError) and err.errno == errno.ENOSPC:
        return ModelLoadError(
            repo_id, "the disk is full.", hint="make room, or point HF_HOME to another disk"
        )
    if isinstance(err, hub_errors.HFValidationError):
        return ModelLoadError(
            repo_id, "this is no name of a repo.", hint="write it like user/my-switch"
        )
    text = next(iter(str(err).strip().splitlines()), type(err).__name__)
    return ModelLoadError(repo_id, text, hint="try again", retryable=True)
