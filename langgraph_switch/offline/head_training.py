"""Fitting a head: hidden states are collected once, then a small network learns from them.

The loss is the LM switcher's: cross-entropy of a target distribution over the candidates.
Collected states lie in the work folder shard by shard, so a run that was broken off goes on; the
fit itself takes seconds and starts anew. Knows nothing of traces, candidates or engines.
"""

from __future__ import annotations

import copy
import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import cross_entropy

from langgraph_switch.errors import EngineError
from langgraph_switch.offline.head_settings import HeadSettings
from langgraph_switch.offline.learner import OnStep
from langgraph_switch.offline.settings import digest
from langgraph_switch.offline.sft import Finetuned
from langgraph_switch.offline.training_rows import EncodedRow
from langgraph_switch.offline.work_folder import open_work_folder, write_json
from langgraph_switch.seeds import derive_uniform
from langgraph_switch.switchers.head_model import HeadConfig, SwitcherHead

_RESULT, _HEAD = "result.json", "head"
_ROWS_AT_ONCE = 32
_LEAST_SCALE = 1e-6
_LEAST_GAIN = 1e-4
"""A dev loss that falls by less has not fallen."""

ReadStates = Callable[[Sequence[Sequence[int]]], list[Tensor]]
"""From prefixes to their last hidden states."""


class HeadRow(EncodedRow):
    """One example: what the candidate reads, what the head is told, and what it should say."""

    query_id: str
    speakers: list[float]
    label_probabilities: list[float]


def train_head(
    rows: Sequence[HeadRow],
    config: HeadConfig,
    read_states: ReadStates,
    *,
    work: Path,
    settings: HeadSettings,
    about: dict[str, Any],
    on_step: OnStep,
) -> Finetuned:
    """Train a head; called again it goes on where it was broken off.

    Args:
        rows: What is learned.
        config: What the head is made for.
        read_states: Computes hidden states.
        work: A folder of this run's own.
        settings: How.
        about: What else makes this run what it is; compared when the folder is there already.
        on_step: Called with (step, most steps, loss) after every pass; what it raises breaks the
            training off.

    Raises:
        ConfigError: The work folder belongs to another run.
        EngineError: The loss is no number any more, or the model failed.
    """
    described = {
        **about,
        "head": config.model_dump(mode="json"),
        "settings": settings.model_dump(mode="json"),
        "rows": f"{len(rows)} rows, digest {digest(list(rows))}",
    }
    open_work_folder(work, described)
    if (work / _RESULT).is_file():
        data = json.loads((work / _RESULT).read_text(encoding="utf-8"))
        return Finetuned.from_json(data | {"folder": str(work / _HEAD)})
    started = time.perf_counter()
    inputs = _inputs(rows, _collect(rows, read_states, work), config)
    fitted = _Fit(config, settings, inputs, rows).run(on_step)
    _save(fitted.head, work / _HEAD)
    seconds = time.perf_counter() - started
    size = sum(one.numel() for one in fitted.head.parameters())
    done = Finetuned(
        folder=work / _HEAD,
        method=config.kind,
        why=f"a {config.kind} head on {config.hidden_size} numbers of {config.reads!r}",
        num_rows=len(rows),
        num_parameters=size,
        num_trained_parameters=size,
        steps=fitted.steps,
        resumed_from_step=0,
        learning_rate=settings.learning_rate,
        final_loss=fitted.loss,
        seconds=round(seconds, 3),
        rows_per_second=round(len(rows) / seconds, 3),
        dtype="float32",
    )
    write_json(work / _RESULT, done.to_json())
    return done


def _collect(rows: Sequence[HeadRow], read_states: ReadStates, work: Path) -> Tensor:
    """Return every row's hidden state, [rows, hidden size]; prefixes of like length together."""
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]["input_ids"]))
    states: dict[int, Tensor] = {}
    for number, start in enumerate(range(0, len(rows), _ROWS_AT_ONCE)):
        indices = order[start : start + _ROWS_AT_ONCE]
        file = work / f"states-{number:05d}.safetensors"
        if not file.is_file():
            found = torch.stack(read_states([rows[index]["input_ids"] for index in indices]))
            partial = file.with_suffix(".tmp")
            save_file({"states": found}, partial)
            partial.replace(file)
        states |= dict(zip(indices, load_file(file)["states"], strict=True))
    return torch.stack([states[index] for index in range(len(rows))])


def _inputs(rows: Sequence[HeadRow], states: Tensor, config: HeadConfig) -> Tensor:
    if not config.sees_speakers:
        return states
    return torch.cat([states, torch.tensor([row["speakers"] for row in rows])], dim=1)


@dataclass(frozen=True, slots=True)
class _Fitted:
    head: SwitcherHead
    steps: int
    loss: float
    """Mean training loss of the pass that was kept."""


class _Fit:
    """AdamW over the rows, until the loss on the dev share falls no more."""

    def __init__(
        self, config: HeadConfig, settings: HeadSettings, inputs: Tensor, rows: Sequence[HeadRow]
    ) -> None:
        self._settings = settings
        self._inputs = inputs
        self._targets = torch.tensor([row["label_probabilities"] for row in rows])
        is_dev = [_is_dev(row["query_id"], settings) for row in rows]
        chosen = [index for index, dev in enumerate(is_dev) if not dev]
        self._chosen = torch.tensor(chosen or list(range(len(rows))))
        # Too few queries for a share of their own: it stops when it learns no more.
        self._dev = torch.tensor([i for i, dev in enumerate(is_dev) if dev] or chosen)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self._head = SwitcherHead(config)
        learned = inputs[self._chosen]
        self._head.mean = learned.mean(dim=0)
        deviation = learned.std(dim=0, unbiased=False)
        # What never changes in training says nothing; it must not explode when it does change.
        self._head.scale = torch.where(deviation > _LEAST_SCALE, deviation, 1.0)

    def run(self, on_step: OnStep) -> _Fitted:
        """Return the head of the best pass."""
        settings = self._settings
        optimizer = torch.optim.AdamW(
            self._head.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        order = torch.Generator().manual_seed(settings.seed)
        steps_per_pass = math.ceil(len(self._chosen) / settings.batch_size)
        best, kept, since_best = math.inf, _Fitted(self._head, 0, math.nan), 0
        for number in range(1, settings.epochs + 1):
            loss = self._pass(optimizer, order)
            dev_loss = self._dev_loss()
            if not math.isfinite(loss + dev_loss):
                raise EngineError(
                    f"The training diverged: the loss of pass {number} is {loss}.",
                    hint="lower learning_rate and start again in another folder",
                )
            on_step(number * steps_per_pass, settings.epochs * steps_per_pass, loss)
            since_best += 1
            if dev_loss < best - _LEAST_GAIN:
                best, since_best = dev_loss, 0
                kept = _Fitted(copy.deepcopy(self._head), number * steps_per_pass, loss)
            if since_best >= settings.patience:
                break
        return kept

    def _pass(self, optimizer: torch.optim.Optimizer, order: torch.Generator) -> float:
        total = 0.0
        for batch in self._batches(order):
            optimizer.zero_grad()
            loss = cross_entropy(self._head(self._inputs[batch]), self._targets[batch])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += float(loss.detach()) * len(batch)
        return total / len(self._chosen)

    def _batches(self, order: torch.Generator) -> Iterator[Tensor]:
        shuffled = self._chosen[torch.randperm(len(self._chosen), generator=order)]
        yield from torch.split(shuffled, self._settings.batch_size)

    def _dev_loss(self) -> float:
        with torch.no_grad():
            logits = self._head(self._inputs[self._dev])
            return float(cross_entropy(logits, self._targets[self._dev]))


def _is_dev(query_id: str, settings: HeadSettings) -> bool:
    return derive_uniform(settings.seed, query_id, 0, "early stopping") < settings.dev_share


def _save(head: SwitcherHead, folder: Path) -> None:
    """Write the head, whole or not at all."""
    partial = folder.with_name(f"{folder.name}.tmp")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    head.save(partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.replace(folder)
