"""What an HTTP answer says about trying again. Knows nothing of clients or of who asks."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_PASSING = frozenset({408, 409, 425, 429})
_SERVER_ERROR = 500


def is_passing_status(status: int) -> bool:
    """Return whether a failure with this status may pass by itself."""
    return status in _PASSING or status >= _SERVER_ERROR


def parse_retry_after_s(text: str | None) -> float | None:
    """Return the seconds of a Retry-After header: a number, or a date; None if it is neither."""
    if text is None:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(tz=UTC)).total_seconds())
    except (TypeError, ValueError):
        return None
