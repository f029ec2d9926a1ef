"""What the linear layers of a model are fed: the second moment of each one's inputs.

Knows nothing of what is done with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel


def input_moments(module: PreTrainedModel, sequences: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """Return by layer the sum over all tokens of input times input, [in, in], in float32.

    Args:
        module: The causal LM.
        sequences: Token ids, each read alone.
    """
    moments: dict[str, Tensor] = {}

    def watch(name: str, layer: nn.Linear) -> Any:
        size = layer.in_features
        moments[name] = torch.zeros(size, size, device=layer.weight.device)

        def before(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            flat = inputs[0].reshape(-1, size).float()
            moments[name].addmm_(flat.T, flat)

        return layer.register_forward_pre_hook(before)

    layers = {n: layer for n, layer in module.named_modules() if isinstance(layer, nn.Linear)}
    hooks = [watch(name, layer) for name, layer in layers.items()]
    try:
        with torch.inference_mode():
            for ids in sequences:
                module(input_ids=torch.tensor([list(ids)], device=module.device), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: moment for name, moment in moments.items() if float(moment.trace()) > 0}
