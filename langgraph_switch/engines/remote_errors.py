"""What a server's failures mean: who must act, and whether to try again.

Knows nothing of requests. No key is ever shown: servers that repeat it are cut short.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import openai

from langgraph_switch.engines.http_answers import is_passing_status, parse_retry_after_s
from langgraph_switch.errors import EngineError

_LONGEST_MESSAGE = 500


@contextmanager
def server_failures(base_url: str, model: str, *, key: str | None) -> Iterator[None]:
    """Raise what a client raises as `EngineError`s.

    Args:
        base_url: Whom the message blames.
        model: The model that was asked for.
        key: What must not be shown.
    """
    try:
        yield
    except (openai.APIError, httpx2.HTTPError, json.JSONDecodeError, TimeoutError) as err:
        error = _engine_error(err, f"{base_url} ({model})", key)
        if key and key in repr(err):
            raise error from None  # Its text holds the key.
        raise error from err


def status_of(err: BaseException) -> int | None:
    """Return the HTTP status behind an error, if there is one."""
    cause = err.__cause__ if isinstance(err, EngineError) else err
    return cause.status_code if isinstance(cause, openai.APIStatusError) else None


def _engine_error(err: Exception, who: str, key: str | None) -> EngineError:
    if isinstance(err, openai.APIStatusError):
        return _status_error(err, who, key)
    if isinstance(err, openai.APITimeoutError | httpx2.TimeoutException | TimeoutError):
        return EngineError(
            f"{who} did not answer in time.",
            hint="raise engine.timeout_s, or see whether the server is overloaded",
            retryable=True,
        )
    if isinstance(err, (openai.APIConnectionError, httpx2.HTTPError)):
        why = err.__cause__ or err
        return EngineError(
            f"The connection to {who} failed: {_shown(str(why) or type(why).__name__, key)}",
            hint="start the server, or correct engine.base_url",
            retryable=True,
        )
    # An error in the middle of a stream, or half an event.
    message = _shown(str(err), key)
    return EngineError(f"The answer of {who} broke off: {message}", retryable=True)


def _status_error(err: openai.APIStatusError, who: str, key: str | None) -> EngineError:
    status = err.status_code
    message = _shown(err.message.removeprefix(f"Error code: {status} - "), key)
    if status in {401, 403}:
        hint = "check the key in the environment variable that engine.api_key_env names"
    elif status == 404:  # noqa: PLR2004 - HTTP's "not found"
        hint = "check engine.base_url (vLLM's ends in /v1) and engine.model"
    elif is_passing_status(status):
        hint = "try again later, or lower engine.max_in_flight"
    else:
        hint = "see the server's message"
    return EngineError(
        f"{who} answered with status {status}: {message}",
        hint=hint,
        retryable=is_passing_status(status),
        retry_after_s=parse_retry_after_s(err.response.headers.get("retry-after")),
    )


def _shown(text: str, key: str | None) -> str:
    text = text.replace(key, "***") if key else text
    return text if len(text) <= _LONGEST_MESSAGE else f"{text[:_LONGEST_MESSAGE]} ..."
