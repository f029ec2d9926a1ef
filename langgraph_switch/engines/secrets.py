"""Keys out of messages: what a service's error says may quote the key that it refused.

Knows nothing of engines.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

HIDDEN = "[secret]"
_LOOKS_SECRET = re.compile(
    r"(?<![A-Za-z0-9])(?:sk|pk|hf|gsk|xai|key|api|lsv2)[-_][A-Za-z0-9*_-]{8,}"
    r"|(?<=[Bb]earer )\S+"
    r"|(?<=://)[^/\s@]+(?=@)"
)


def without_secrets(text: str, known: Iterable[str] = ()) -> str:
    """Return a text without known secrets, nor anything that looks like one."""
    for secret in sorted({one for one in known if one}, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return _LOOKS_SECRET.sub(HIDDEN, text)
