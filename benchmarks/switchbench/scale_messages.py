"""The messages of a remote engine, and a stored response, by their size.

Bodies as the engine sends them to vLLM's /v1/completions and as vLLM answers, without HTTP headers.
Token ids are drawn evenly from a vocabulary: about one digit longer than in real text.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from langgraph_switch.offline.responses import Response
from langgraph_switch.trace import Message, Segment, Trace

_MODEL = "allenai/Llama-3.1-Tulu-3-8B"
_EXTRAS: dict[str, Any] = {
    "return_token_ids": True, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0,
    "ignore_eos": True, "add_special_tokens": False, "stop_token_ids": [128009],
}  # fmt: skip
_LABELS = [15, 16, 17]


@dataclass(frozen=True, kw_only=True)
class Messages:
    """Requests and answers; each method returns the bytes sent and received."""

    vocabulary: int
    segment_tokens: int
    text_bytes: int

    def generate(self, prompt_tokens: int) -> tuple[int, int]:
        """Return the bytes of a segment in one answer."""
        answer = self._answer(self._ids(self.segment_tokens)) | {"usage": _usage(prompt_tokens)}
        answer["choices"][0]["prompt_token_ids"] = self._ids(prompt_tokens)
        return self._request(prompt_tokens), _size(answer)

    def streamed(self, prompt_tokens: int) -> tuple[int, int]:
        """Return the bytes of a segment, an event a token."""
        sent = self._request(prompt_tokens, stream=True, stream_options={"include_usage": True})
        events = [self._answer([one]) for one in self._ids(self.segment_tokens)]
        events[0]["choices"][0]["prompt_token_ids"] = self._ids(prompt_tokens)
        events.append(self._answer([]) | {"choices": [], "usage": _usage(prompt_tokens)})
        return sent, sum(_size(event) + len("data: \n\n") for event in events)

    def decide(self, prompt_tokens: int) -> tuple[int, int]:
        """Return the bytes of a decision: log-probabilities of three labels."""
        extras = {
            "logprob_token_ids": _LABELS, "return_tokens_as_token_ids": True,
            "add_special_tokens": False, "return_token_ids": True,
        }  # fmt: skip
        request: dict[str, Any] = {"model": _MODEL, "prompt": self._ids(prompt_tokens)}
        request |= {"logprobs": 1, "max_tokens": 1, "temperature": 0.0} | extras
        answer = self._answer([15]) | {"usage": _usage(prompt_tokens)}
        answer["choices"][0]["prompt_token_ids"] = self._ids(prompt_tokens)
        answer["choices"][0]["logprobs"] = {
            "text_offset": [0], "token_logprobs": [-0.1234567], "tokens": ["token_id:15"],
            "top_logprobs": [{f"token_id:{one}": -1.2345678901 for one in _LABELS}],
        }  # fmt: skip
        return _size(request), _size(answer)

    def _request(self, prompt_tokens: int, **more: Any) -> int:
        fields = {"max_tokens": self.segment_tokens, "temperature": 0.7, "top_p": 0.9}
        request = {"model": _MODEL, "prompt": self._ids(prompt_tokens), "seed": 2**62}
        return _size(request | fields | _EXTRAS | more)

    def _ids(self, number: int) -> list[int]:
        draw = random.Random(number)  # noqa: S311 - no secret
        return [draw.randrange(self.vocabulary) for _ in range(number)]

    def _answer(self, token_ids: Sequence[int]) -> dict[str, Any]:
        choice = {
            "index": 0, "text": "x" * (self.text_bytes * len(token_ids)), "logprobs": None,
            "finish_reason": "length", "stop_reason": None, "token_ids": list(token_ids),
            "prompt_logprobs": None, "prompt_token_ids": None,
        }  # fmt: skip
        name = "cmpl-0123456789abcdef0123456789abcdef"
        about = {"id": name, "object": "text_completion", "created": 1764000000, "model": _MODEL}
        return about | {"choices": [choice], "service_tier": None, "system_fingerprint": None}


def row_bytes(response_tokens: int, segment_tokens: int) -> int:
    """Return the bytes of a stored response, before parquet compresses it."""
    made = Messages(vocabulary=128_256, segment_tokens=segment_tokens, text_bytes=4)
    segments = []
    for at in range(0, response_tokens, segment_tokens):
        ids = made._ids(min(segment_tokens, response_tokens - at))  # noqa: SLF001
        segments.append(
            Segment(
                speaker="aligned", text="x" * (4 * len(ids)), token_ids=tuple(ids),
                tokenizer="0123456789abcdef", decided_by="switcher", finish_reason="length",
                probabilities=(0.1234567890123, 0.2345678901234, 0.6419753209643),
                decide_s=0.123456789, generate_s=0.123456789, cached_tokens=at,
            )
        )  # fmt: skip
    trace = Trace(
        messages=(Message(role="user", content="x" * 512),), trace_id="test-1234", seed=2**62,
        max_tokens=response_tokens, segments=tuple(segments), finish_reason="length",
    )  # fmt: skip
    response = Response(example_id="test-1234", trace=trace, score=1.0, seconds=1.23456789)
    return _size(response.to_json())


def _usage(prompt_tokens: int) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens + 50, "completion_tokens": 50,
        "prompt_tokens_details": {"cached_tokens": prompt_tokens - 50},
    }  # fmt: skip


def _size(body: dict[str, Any]) -> int:
    return len(json.dumps(body, separators=(",", ":")).encode())
