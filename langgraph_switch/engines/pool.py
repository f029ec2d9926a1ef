"""Which engine serves which model: every distinct base is loaded once, on first use.

Knows nothing of candidates or switching.
"""

from __future__ import annotations

import json
import threading

from langgraph_switch.config import ModelRef
from langgraph_switch.engines.models import SharedModel, load_shared_model
from langgraph_switch.engines.transformers_engine import TransformersEngine


class ModelPool:
    """Loads models on first use and shares them. Thread-safe."""

    def __init__(self, *, kv_cache_bytes: int) -> None:
        """Create an empty pool whose engines keep at most that many bytes each."""
        self._kv_cache_bytes = kv_cache_bytes
        self._lock = threading.Lock()
        self._models: dict[tuple[str, ...], SharedModel] = {}
        self._engines: dict[tuple[str, ...], TransformersEngine] = {}

    def engine(
        self, ref: ModelRef, *, name: str, trust_remote_code: bool = False
    ) -> TransformersEngine:
        """Return the engine of a model, the same one for the same weights and adapter.

        Args:
            ref: The model, its `model` and `adapter` resolved to a repo or an existing path.
            name: What to call it in messages, if it is not loaded yet.
            trust_remote_code: Whether its own code may be run, if it is not loaded yet.

        Raises:
            ModelLoadError: Model, adapter or tokenizer cannot be loaded.
        """
        base_key = base_weights(ref)
        key = (*base_key, ref.adapter or "", ref.adapter_revision or "")
        with self._lock:
            if key not in self._engines:
                model = self._model(ref, base_key, trust_remote_code=trust_remote_code)
                adapter = None
                if ref.adapter:
                    adapter = model.add_adapter(ref.adapter, ref.adapter_revision)
                self._engines[key] = TransformersEngine(
                    model,
                    model.tokenizer_of(adapter),
                    adapter=adapter,
                    kv_cache_bytes=self._kv_cache_bytes,
                    name=name,
                )
            return self._engines[key]

    @property
    def num_models(self) -> int:
        """Distinct bases held now."""
        return len(self._models)

    def _model(
        self, ref: ModelRef, key: tuple[str, ...], *, trust_remote_code: bool
    ) -> SharedModel:
        if key not in self._models:
            model = load_shared_model(
                ref.model,
                revision=ref.revision,
                device=ref.device,
                dtype=ref.dtype,
                device_map=ref.device_map,
                offload=ref.offload,
                trust_remote_code=trust_remote_code,
            )
            model.pack()
            self._models[key] = model
        return self._models[key]


def base_weights(ref: ModelRef) -> tuple[str, ...]:
    """Return what tells one copy of weights from another."""
    placed = (ref.device, ref.dtype, json.dumps(ref.device_map, sort_keys=True), ref.offload or "")
    return (ref.model, ref.revision or "", *placed)
