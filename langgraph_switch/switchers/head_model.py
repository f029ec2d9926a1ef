"""The head itself, and its files: a hidden state and who wrote what in, a logit per candidate out.

`head.json` says what it was made for, `head.safetensors` holds its numbers. Knows nothing of
engines, of how hidden states are computed or of training.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from huggingface_hub import snapshot_download
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from langgraph_switch._version import __version__
from langgraph_switch.config import HeadKind
from langgraph_switch.engines.models import load_error
from langgraph_switch.errors import ConfigError, ModelLoadError
from langgraph_switch.trace import Trace
from langgraph_switch.validation import validated

HEAD_CONFIG, HEAD_WEIGHTS = "head.json", "head.safetensors"


class HeadConfig(BaseModel):
    """What a head was made for: the content of `head.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    kind: HeadKind
    hidden_size: int = Field(ge=1)
    """Width of the hidden state that it reads."""
    candidates: tuple[str, ...] = Field(min_length=2)
    """In the order of its outputs."""
    reads: str
    """The candidate whose hidden state it reads."""
    model: str
    """That candidate's checkpoint, as its rollouts named it."""
    revision: str | None = None
    hidden_units: int | None = Field(default=None, ge=1)
    """Of the one hidden layer of kind `mlp`."""
    sees_speakers: bool = True
    """Whether it is told who wrote what, beside the hidden state."""
    package_version: str = __version__

    @property
    def num_features(self) -> int:
        """Numbers that it is told beside the hidden state."""
        return 2 * len(self.candidates) + 2 if self.sees_speakers else 0


def speaker_features(trace: Trace, names: Sequence[str]) -> list[float]:
    """Return what a hidden state does not say: who wrote what, and how far the response is.

    Who wrote last (one number per candidate), everybody's share of the tokens so far, the used
    share of the token budget, and the logarithm of 1 + the number of segments.
    """
    last = trace.segments[-1].speaker if trace.segments else None
    written, total = trace.tokens_by_speaker(), max(1, trace.num_tokens)
    return [
        *(float(name == last) for name in names),
        *(written.get(name, 0) / total for name in names),
        trace.num_tokens / trace.max_tokens,
        math.log1p(len(trace.segments)),
    ]


class SwitcherHead(nn.Module):
    """A linear layer, or one hidden layer, over standardised inputs."""

    mean: Tensor
    scale: Tensor

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.config = config
        width = config.hidden_size + config.num_features
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        outputs = len(config.candidates)
        if config.kind == "linear":
            self.layers = nn.Sequential(nn.Linear(width, outputs))
        else:
            units = config.hidden_units or width
            self.layers = nn.Sequential(
                nn.Linear(width, units), nn.GELU(), nn.Linear(units, outputs)
            )

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits, [B, candidates]."""  # inputs: [B, hidden size + features]
        logits: Tensor = self.layers((inputs - self.mean) / self.scale)
        return logits

    def inputs(self, states: Sequence[Tensor], traces: Sequence[Trace]) -> Tensor:
        """Lay hidden states and what is told beside them side by side."""
        hidden = torch.stack(list(states))
        if not self.config.sees_speakers:
            return hidden
        told = [speaker_features(trace, self.config.candidates) for trace in traces]
        return torch.cat([hidden, torch.tensor(told)], dim=1)

    def save(self, folder: Path) -> None:
        """Write both files into a folder."""
        tensors = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
        save_file(tensors, folder / HEAD_WEIGHTS)
        text = json.dumps(self.config.model_dump(mode="json"), indent=2, ensure_ascii=False)
        (folder / HEAD_CONFIG).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, source: str, *, revision: str | None = None) -> SwitcherHead:
        """Read a head from a folder or a repo.

        Raises:
            ModelLoadError: There is no head, or its numbers do not fit its description.
            ConfigError: Its description is invalid.
        """
        folder = _head_folder(source, revision)
        config = _read_config(folder, source)
        with torch.random.fork_rng(devices=[]):  # What is drawn here is overwritten at once.
            head = cls(config)
        try:
            head.load_state_dict(load_file(folder / HEAD_WEIGHTS))
        except (SafetensorError, RuntimeError) as err:
            raise ModelLoadError(
                source,
                f"its {HEAD_WEIGHTS} does not fit its {HEAD_CONFIG}, or is damaged.",
                hint="get both files again, or train it again: langgraph-switch train --head",
            ) from err
        return head.requires_grad_(requires_grad=False).train(mode=False)


def check_head(config: HeadConfig, *, names: Sequence[str], reads: str, hidden_size: int) -> None:
    """Refuse a head that was made for others.

    Args:
        config: What the head was made for.
        names: The candidates that are to be decided among, in order.
        reads: The candidate whose hidden state it is to read.
        hidden_size: Width of that candidate's hidden state.

    Raises:
        ConfigError: The candidates, their order, the reader or the width are others.
    """
    if config.candidates != tuple(names):
        raise ConfigError(
            f"The head was trained for {', '.join(config.candidates)}, in this order; here are "
            f"{', '.join(names)}.",
            hint="name the candidates so, in that order, or train a head for these",
        )
    if config.reads != reads:
        raise ConfigError(
            f"The head was trained on the hidden state of {config.reads!r}, not of {reads!r}.",
            hint=f"set switcher.candidate to {config.reads!r}, or train a head on {reads!r}",
        )
    if config.hidden_size != hidden_size:
        raise ConfigError(
            f"The head reads hidden states of {config.hidden_size} numbers (those of "
            f"{config.model!r}); candidate {reads!r} has {hidden_size}.",
            hint=f"let {reads!r} be the checkpoint that it was trained on, or train a new head",
        )


def _head_folder(source: str, revision: str | None) -> Path:
    folder = Path(source)
    if not folder.is_dir():
        if source.startswith(("/", ".", "~")):
            raise ModelLoadError(source, "there is no such folder.", hint="check the path")
        try:
            patterns = [HEAD_CONFIG, HEAD_WEIGHTS]
            folder = Path(snapshot_download(source, revision=revision, allow_patterns=patterns))
        except Exception as err:
            raise load_error(source, err) from err
    for name in (HEAD_CONFIG, HEAD_WEIGHTS):
        if not (folder / name).is_file():
            raise ModelLoadError(
                source,
                f"it holds no switcher head: there is no {name}.",
                hint="name the folder `head` of what langgraph-switch train --head made",
            )
    return folder


def _read_config(folder: Path, source: str) -> HeadConfig:
    try:
        data = json.loads((folder / HEAD_CONFIG).read_text(encoding="utf-8"))
    except ValueError as err:
        raise ModelLoadError(source, f"its {HEAD_CONFIG} is no valid JSON.") from err
    where = str(folder / HEAD_CONFIG)
    if not isinstance(data, dict):
        raise ModelLoadError(source, f"its {HEAD_CONFIG} holds no object.")
    return validated(HeadConfig, data, where=where, what="switcher head")
