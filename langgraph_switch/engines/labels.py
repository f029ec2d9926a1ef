"""Labels as a trie of tokens, so that one forward pass scores all of them.

Knows nothing of models or of what the labels stand for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from langgraph_switch.engines.batch import TreeNode
from langgraph_switch.errors import ConfigError


@dataclass(slots=True)
class LabelTree:
    """The labels' shared beginnings: the nodes to try, and where each label ends."""

    labels: tuple[tuple[int, ...], ...]
    nodes: list[TreeNode] = field(default_factory=list)
    _index: dict[tuple[int, ...], int] = field(default_factory=dict)
    _children: dict[tuple[int, ...], list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.labels or any(not label for label in self.labels):
            raise ConfigError(
                "A label has no tokens of its own.",
                hint="use labels that the tokenizer keeps apart",
            )
        if len(set(self.labels)) < len(self.labels):
            raise ConfigError(
                f"The tokenizer gives two labels the same tokens: {list(self.labels)}.",
                hint="use a switcher whose tokenizer tells these labels apart",
            )
        for label in self.labels:
            for depth, token_id in enumerate(label):
                siblings = self._children.setdefault(label[:depth], [])
                if token_id not in siblings:
                    siblings.append(token_id)
        inner = sorted((path for path in self._children if path), key=len)
        for path in inner:
            self._index[path] = len(self.nodes)
            self.nodes.append(TreeNode(path[-1], self._index.get(path[:-1])))

    def logprobs(self, logits: Tensor) -> Tensor:
        """Return each label's log-probability.

        A label that begins another counts only the mass that does not go on to the other.
        """  # logits: [B, 1 + nodes, V] -> [B, labels]
        steps = torch.log_softmax(logits.float(), dim=-1)
        return torch.stack([self._score(label, steps) for label in self.labels], dim=1)

    def _score(self, label: Sequence[int], steps: Tensor) -> Tensor:
        score = torch.zeros(steps.shape[0], device=steps.device)
        for depth, token_id in enumerate(label):
            score = score + steps[:, self._slot(tuple(label[:depth])), token_id]
        if continuations := self._children.get(tuple(label)):
            slot = self._slot(tuple(label))
            going_on = steps[:, slot][:, continuations].exp().sum(dim=1).clamp(max=1.0)
            score = score + torch.log1p(-going_on)
        return score

    def _slot(self, path: tuple[int, ...]) -> int:
        return self._index[path] + 1 if path else 0
