"""What the published inference code does for every segment, in our own words.

Nothing is remembered between two segments: the query and everything written so far are turned
into text, tokenised and computed again, by the switcher and by the chosen candidate. The switcher
answers in up to 50 free tokens, which are searched for a digit. (Published: one process and GPU
per model, started anew for every round; here all in one process, which costs it nothing.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

DECISION_TOKENS = 50


@dataclass(slots=True)
class Response:
    """One response of the published loop."""

    query: str
    segments: list[str] = field(default_factory=list)
    speakers: list[int] = field(default_factory=list)
    num_tokens: int = 0

    @property
    def switcher_text(self) -> str:
        """What the switcher reads, up to its closing question."""
        blocks = [
            f" <model {speaker} begins> {text} <model {speaker} ends>"
            for speaker, text in zip(self.speakers, self.segments, strict=True)
        ]
        return self.query + "".join(blocks)

    @property
    def candidate_text(self) -> str:
        """What a candidate continues: every segment is followed by a blank."""
        return self.query + " " + "".join(f"{text} " for text in self.segments)


@dataclass(frozen=True, slots=True)
class PublishedLoop:
    """Candidates in the switcher's order, the switcher, and their tokenizer."""

    candidates: Sequence[PreTrainedModel]
    switcher: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    options: dict[str, Any]
    """Options of `generate`."""

    @torch.no_grad()
    def run(
        self,
        prompts: Sequence[str],
        *,
        max_tokens: int,
        segment_tokens: int,
        schedule: Sequence[Sequence[int]] | None = None,
    ) -> list[Response]:
        """Answer prompts.

        Args:
            prompts: One batch of queries.
            max_tokens: Tokens of every response.
            segment_tokens: Tokens of every segment; the last one may have fewer.
            schedule: Speakers per response and round, which overrule what the switcher's text
                says after it has been written and searched. So two contestants can be made to
                switch alike; None: the switcher rules.
        """
        responses = [Response(prompt) for prompt in prompts]
        lengths = [segment_tokens] * (max_tokens // segment_tokens)
        if rest := max_tokens % segment_tokens:
            lengths.append(rest)
        for number, length in enumerate(lengths):
            is_anchored = number in (0, len(lengths) - 1)
            last = len(self.candidates) - 1
            speakers = [last] * len(responses) if is_anchored else self._decide(responses)
            if schedule is not None:
                speakers = [row[number] for row in schedule]
            self._write(responses, speakers, length)
        return responses

    def _decide(self, responses: Sequence[Response]) -> list[int]:
        most = len(self.candidates) - 1
        question = (
            " Which model should generate the next segment? Please respond with a number from "
            f"0 to {most}. The answer is model "
        )
        texts = [response.switcher_text + question for response in responses]
        answers, _ = self._generate(self.switcher, texts, DECISION_TOKENS)
        return [_first_label(answer, len(self.candidates)) for answer in answers]

    def _write(
        self, responses: Sequence[Response], speakers: Sequence[int], num_tokens: int
    ) -> None:
        for index, model in enumerate(self.candidates):
            chosen = [r for r, speaker in zip(responses, speakers, strict=True) if speaker == index]
            if not chosen:
                continue
            written, count = self._generate(model, [r.candidate_text for r in chosen], num_tokens)
            for response, text in zip(chosen, written, strict=True):
                response.segments.append(text)
                response.speakers.append(index)
                response.num_tokens += count

    def _generate(
        self, model: PreTrainedModel, texts: list[str], num_tokens: int
    ) -> tuple[list[str], int]:
        inputs = self.tokenizer(texts, return_tensors="pt", padding=True, truncation=True)
        inputs = inputs.to(model.device)
        generate: Any = model.generate
        output = generate(
            inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            max_new_tokens=num_tokens,
            **self.options,
        )
        new = output[:, inputs["input_ids"].shape[1] :]
        return self.tokenizer.batch_decode(new, skip_special_tokens=True), new.shape[1]


def _first_label(answer: str, num_candidates: int) -> int:
    """Return the lowest number that occurs in a text, or else the last candidate's."""
    found = (index for index in range(num_candidates) if str(index) in answer)
    return next(found, num_candidates - 1)
