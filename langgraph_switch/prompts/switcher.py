"""What the switcher reads: the query, who wrote what, and the question who is next.

The wording is that of the published switchers, to the letter, since they were trained on it.
Knows nothing of engines or of how the answer is drawn.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from langgraph_switch.engines.tokenizer import Tokenizer
from langgraph_switch.errors import ConfigError
from langgraph_switch.trace import Message, Trace

_TAG = re.compile(r"<(\s*model\s*\d+\s*(?:begins|ends)\s*)>", re.IGNORECASE)
_SENTINEL = "\x02query\x03"


def neutralize_tags(text: str) -> str:
    """Return text in which nothing looks like a tag, so that it cannot pose as a speaker."""
    return _TAG.sub(r"(\1)", text)


def segment_block(speaker_index: int, text: str) -> str:
    """Return one segment as the switcher reads it."""
    tag = f"model {speaker_index}"
    return f" <{tag} begins> {neutralize_tags(text)} <{tag} ends>"


def closing_question(num_candidates: int) -> str:
    """Return the question behind the last segment; the label follows directly."""
    return (
        " Which model should generate the next segment? Please respond with a number from 0 to "
        f"{num_candidates - 1}. The answer is model "
    )


@dataclass(frozen=True, slots=True)
class LabelIds:
    """The closing question and every candidate's label, as ids that follow each other."""

    question: tuple[int, ...]
    labels: tuple[tuple[int, ...], ...]


class SwitcherPrompt:
    """Renders traces for the switcher; but for its closing question the prompt only grows."""

    def __init__(
        self, tokenizer: Tokenizer, names: Sequence[str], *, kind: Literal["plain", "chat"]
    ) -> None:
        """Settle how the switcher reads traces of these candidates.

        Raises:
            ConfigError: A chat is asked for and the tokenizer has no chat template, or the
                tokenizer cannot tell two labels apart.
        """
        if kind == "chat" and not tokenizer.has_chat_template:
            raise ConfigError(
                "The switcher is to read a chat, but its tokenizer has no chat template.",
                hint="set switcher.prompt to 'plain'",
            )
        self._tokenizer = tokenizer
        self._index = {name: index for index, name in enumerate(names)}
        self._before, after = _chat_frame(tokenizer) if kind == "chat" else ("", "")
        question = closing_question(len(names)) + after
        self.labels = _label_ids(question, len(names), tokenizer)
        self._kind = kind

    def render(self, trace: Trace) -> str:
        """Return the whole prompt as one text, for readers and for training."""
        blocks = [segment_block(self._index[s.speaker], s.text) for s in trace.segments]
        return neutralize_tags(trace.query) + "".join(blocks) + closing_question(len(self._index))

    def encode(self, trace: Trace) -> list[int]:
        """Return the prompt's ids, piece by piece, so that a longer trace only appends."""
        query = neutralize_tags(trace.query)
        if self._kind == "chat":
            ids = list(self._tokenizer.encode_chat(self._before + query))
        else:
            ids = list(self._tokenizer.encode_document(query))
        for segment in trace.segments:
            block = segment_block(self._index[segment.speaker], segment.text)
            ids.extend(self._tokenizer.encode(block))
        ids.extend(self.labels.question)
        return ids


def _chat_frame(tokenizer: Tokenizer) -> tuple[str, str]:
    """Return what the chat template puts before and behind a user's words."""
    rendered = tokenizer.render_chat([Message(role="user", content=_SENTINEL)])
    before, found, after = rendered.partition(_SENTINEL)
    if not found:
        raise ConfigError(
            "The chat template of the switcher's tokenizer changes what a user says.",
            hint="set switcher.prompt to 'plain'",
        )
    return before, after


def _label_ids(question: str, num_candidates: int, tokenizer: Tokenizer) -> LabelIds:
    """Split question and label where all labels still agree.

    A tokenizer may merge the question's last blank with a label: then that token is the label's.
    One that does so with some labels only gets every label as a token of its own, if it has them.
    """
    whole = [tokenizer.encode(f"{question}{index}") for index in range(num_candidates)]
    if len(set(whole)) < num_candidates:
        raise ConfigError(
            "The switcher's tokenizer gives two candidates the same label.",
            hint="use a switcher whose tokenizer tells numbers apart",
        )
    if len({len(ids) for ids in whole}) > 1:
        alone = [tokenizer.encode(str(index)) for index in range(num_candidates)]
        if len(set(alone)) == num_candidates and all(len(ids) == 1 for ids in alone):
            return LabelIds(tokenizer.encode(question), tuple(alone))
    shared = 0
    while all(len(ids) > shared + 1 for ids in whole) and len({ids[shared] for ids in whole}) == 1:
        shared += 1
    return LabelIds(whole[0][:shared], tuple(ids[shared:] for ids in whole))
