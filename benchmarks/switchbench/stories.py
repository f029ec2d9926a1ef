"""Answers that are known in advance: each question has one, and no piece of it comes twice.

For benchmarks that check whether text was lost or doubled; with a tokenizer that needs no files, so
that a server process is up at once. Knows nothing of servers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NoReturn

from langgraph_switch.trace import Message

_WORDS = "ant bat cat cow dog eel elk fox hen ibis jay kiwi lynx mole newt owl pig rat seal yak"
_NUM_WORDS = 40
_CHUNK_BYTES = 4
BROKEN = " [this does not belong here]"


def story(question: str) -> str:
    """Return the answer to a question: numbered words, other ones for every question."""
    words = _WORDS.split()
    digest = hashlib.blake2b(question.encode(), digest_size=_NUM_WORDS).digest()
    return " ".join(f"{i} {words[byte % len(words)]}" for i, byte in enumerate(digest))


def rest_of_story(text: str) -> str:
    """Return what follows a question, a line break and the beginning of its answer."""
    question, _, said = text.partition("\n")
    whole = story(question)
    return whole[len(said) :] if whole.startswith(said) else BROKEN


class ChunkTokenizer:
    """Four bytes are a token. Token 0 ends a text."""

    eos_id = 0
    vocab_size = 2**34
    fingerprint = "chunks"
    has_chat_template = False

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the ids of any text."""
        data = text.encode()
        chunks = (data[i : i + _CHUNK_BYTES] for i in range(0, len(data), _CHUNK_BYTES))
        return tuple(int.from_bytes(b"\x01" + chunk, "big") for chunk in chunks)

    encode_document = encode_chat = encode

    def render_chat(self, messages: Sequence[Message], *, tools: Sequence[str] = ()) -> NoReturn:
        """Refuse: there is no chat template."""
        raise NotImplementedError

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of ids."""
        packed = (one.to_bytes(_CHUNK_BYTES + 1, "big") for one in token_ids if one)
        return b"".join(one.lstrip(b"\x00")[1:] for one in packed).decode(errors="replace")
