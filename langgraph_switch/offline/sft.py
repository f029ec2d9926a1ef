"""Supervised finetuning, full or LoRA: rows of token ids in, safetensors out, resumable.

The one wrapper around TRL and peft that switcher training and distillation share. All that lies
in a work folder belongs to one run: another run's checkpoints are refused, its own are gone on
with. Knows nothing of rollouts, switchers or cards.
"""

from __future__ import annotations

import contextlib
import copy
import gc
import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, Self, TypedDict

import torch
from transformers import AutoTokenizer, PreTrainedModel

from langgraph_switch.config import HeadKind, ModelRef
from langgraph_switch.engines.models import SharedModel, load_shared_model
from langgraph_switch.engines.transformers_engine import is_out_of_memory
from langgraph_switch.errors import ConfigError, EngineOutOfMemoryError
from langgraph_switch.offline.sft_settings import FULL_BELOW_PARAMETERS, Method, SftSettings
from langgraph_switch.offline.work_folder import open_work_folder, write_json

if TYPE_CHECKING:
    from langgraph_switch.offline.sft_trainer import OnStep

__all__ = ["Finetuned", "Method", "SftRow", "SftSettings", "check_rows", "finetune"]

_RESULT, _WEIGHTS, _CHECKPOINTS = "result.json", "weights", "checkpoints"


class SftRow(TypedDict):
    """One example, as token ids."""

    input_ids: list[int]
    labels: list[int]
    """The same ids where the loss falls, and -100 elsewhere."""
    label_ids: NotRequired[list[int]]
    """For a switcher: the ids of all candidates' labels, read where `labels` has its one id."""
    label_probabilities: NotRequired[list[float]]
    """For a switcher: how probable each of them should be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finetuned:
    """What a finetuning, or the training of a head, came to."""

    folder: Path
    """The weights with their tokenizer, the adapter, or the head."""
    method: Method | HeadKind
    why: str
    """Why this method."""
    num_rows: int
    num_parameters: int
    num_trained_parameters: int
    steps: int
    resumed_from_step: int
    learning_rate: float
    final_loss: float
    """Mean loss of the last epoch."""
    seconds: float
    """Of the training itself, since it was last resumed."""
    rows_per_second: float
    dtype: str
    """The type in which the weights are saved."""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self) | {"folder": str(self.folder)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Rebuild it from `to_json`'s output."""
        return cls(**(data | {"folder": Path(data["folder"])}))


def finetune(
    rows: Sequence[SftRow],
    base: ModelRef,
    *,
    work: str | Path,
    settings: SftSettings,
    about: dict[str, Any] | None = None,
    on_step: OnStep | None = None,
) -> Finetuned:
    """Finetune a model on rows; called again it goes on where it was broken off.

    Args:
        rows: What is learned, all of them with `label_ids` or none.
        base: Where the weights start.
        work: A folder of this run's own; it will hold the weights and, until then, checkpoints.
        settings: How.
        about: What else makes this run what it is; compared when the folder is there already.
        on_step: Called with (step, total steps, loss); what it raises breaks the training off.

    Raises:
        ConfigError: The rows do not fit the settings or the model, or the work folder belongs
            to another run.
        ModelLoadError: The base cannot be loaded.
        EngineError: The loss is no number any more, or the device has too little memory.
    """
    check_rows(rows, settings)
    if base.adapter is not None:
        raise ConfigError(
            f"{base.model!r} with the adapter {base.adapter!r} cannot be the start of a training.",
            hint="name a base with weights of its own, or merge the adapter into it first",
        )
    folder = Path(work)
    open_work_folder(folder, _described(rows, base, settings, about or {}))
    if (folder / _RESULT).is_file():
        data = json.loads((folder / _RESULT).read_text(encoding="utf-8"))
        return Finetuned.from_json(data | {"folder": str(folder / _WEIGHTS)})
    shared = load_shared_model(base.model, revision=base.revision, device=settings.device)
    _check_lengths(rows, shared.max_context_tokens, what=f"the context of {base.model!r}")
    done = _Run(shared, base, folder, settings).train(rows, on_step)
    write_json(folder / _RESULT, done.to_json())
    shutil.rmtree(folder / _CHECKPOINTS, ignore_errors=True)
    gc.collect()  # The trainer and its model refer to each other.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return done


def check_rows(rows: Sequence[SftRow], settings: SftSettings) -> None:
    """Refuse rows that cannot be trained on as they are.

    Raises:
        ConfigError: They do not fill one batch, or one is too long.
    """
    if len(rows) < settings.batch_size:
        raise ConfigError(
            f"There are {len(rows)} rows to train on, fewer than one batch of "
            f"{settings.batch_size}: not a single step would be whole.",
            hint="collect more, or set batch_size (--rows-per-step) to "
            f"{max(1, len(rows))} or fewer",
        )
    _check_lengths(rows, settings.max_length, what="max_length")


class _Run:
    """One training of one loaded model."""

    def __init__(
        self, shared: SharedModel, base: ModelRef, folder: Path, settings: SftSettings
    ) -> None:
        self._module: PreTrainedModel = shared.module
        self._base = base
        self._folder = folder
        self._settings = settings
        self._num_parameters = shared.module.num_parameters()
        self._saved_dtype = _saved_dtype(shared.module)
        self.method, self.why = settings.choose_method(self._num_parameters)
        # The trainer writes special tokens into them; what is saved is what was loaded.
        self._configs = copy.deepcopy((shared.module.config, shared.module.generation_config))

    def train(self, rows: Sequence[SftRow], on_step: OnStep | None) -> Finetuned:
        """Train and save; resumes from the last whole checkpoint."""
        from langgraph_switch.offline import sft_trainer  # noqa: PLC0415 - imports trl, an extra

        device = self._module.device
        _refuse_many_gpus(device)
        torch.nn.Module.to(self._module, dtype=self._working_dtype(device))
        with sft_trainer.quiet_transformers():
            trainer = sft_trainer.make_trainer(
                self._module,
                self._tokenizer(),
                [dict(row) for row in rows],
                arguments=self._arguments(device, len(rows)),
                lora=self._lora() if self.method == "lora" else None,
                on_step=on_step,
            )
            checkpoint = sft_trainer.last_checkpoint(self._folder / _CHECKPOINTS)
            started = time.perf_counter()
            with self._explained_memory_errors(device):
                trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
            seconds = time.perf_counter() - started
            self._save(trainer.model)
        return self._result(trainer, len(rows), checkpoint, seconds)

    @contextlib.contextmanager
    def _explained_memory_errors(self, device: torch.device) -> Iterator[None]:
        try:
            yield
        except RuntimeError as err:
            if not is_out_of_memory(err):
                raise
            raise EngineOutOfMemoryError(
                f"{device} has too little memory to train {self._base.model!r}.",
                hint="set micro_batch_size to 1, lower max_length, or use method 'lora'",
            ) from err

    def _working_dtype(self, device: torch.device) -> torch.dtype:
        if self.method == "full" or device.type == "cpu":
            return torch.float32
        return torch.bfloat16 if device.type == "cuda" else self._module.dtype

    def _tokenizer(self) -> Any:
        return AutoTokenizer.from_pretrained(
            self._base.model, revision=self._base.revision or "main", trust_remote_code=False
        )

    def _lora(self) -> Any:
        from peft import LoraConfig  # noqa: PLC0415 - an extra

        settings = self._settings
        names = {name.rpartition(".")[2] for name, _ in self._module.named_modules()}
        if missing := sorted(set(settings.lora_targets) - names):
            raise ConfigError(
                f"{self._base.model!r} has no layer named {missing[0]!r} to put an adapter on.",
                hint="set lora_targets to names of its linear layers, or method to 'full'",
            )
        return LoraConfig(
            r=settings.lora_r,
            lora_alpha=settings.lora_alpha,
            lora_dropout=settings.lora_dropout,
            target_modules=list(settings.lora_targets),
            task_type="CAUSAL_LM",
        )

    def _arguments(self, device: torch.device, num_rows: int) -> dict[str, Any]:
        settings = self._settings
        micro = settings.micro_batch(self._num_parameters)
        return {
            "output_dir": str(self._folder / _CHECKPOINTS),
            "num_train_epochs": settings.num_epochs(self.method, num_rows),
            "per_device_train_batch_size": micro,
            "gradient_accumulation_steps": settings.batch_size // micro,
            "gradient_checkpointing": self._num_parameters >= FULL_BELOW_PARAMETERS,
            "learning_rate": settings.rate(self.method),
            "lr_scheduler_type": "cosine",
            "warmup_steps": settings.warmup,
            "max_length": None,
            "dataset_kwargs": {"skip_prepare_dataset": True},
            "remove_unused_columns": False,
            "dataloader_pin_memory": device.type == "cuda",
            "bf16": device.type == "cuda",
            "use_cpu": device.type == "cpu",
            "save_strategy": "steps",
            "save_steps": settings.save_steps,
            "save_total_limit": 1,
            "logging_steps": 1,
            "logging_nan_inf_filter": False,
            "report_to": "none",
            "disable_tqdm": True,
            "seed": settings.seed,
        }

    def _save(self, model: Any) -> None:
        """Write weights and tokenizer as safetensors and JSON, whole or not at all."""
        partial = self._folder / f"{_WEIGHTS}.tmp"
        shutil.rmtree(partial, ignore_errors=True)
        if self.method == "lora":
            # Adapters sit on attention alone; looking for changed embeddings asks the Hub.
            model.save_pretrained(partial, save_embedding_layers=False)
            (partial / "README.md").unlink(missing_ok=True)
        else:
            model.config, model.generation_config = copy.deepcopy(self._configs)
            model.to(self._saved_dtype).save_pretrained(partial)
        self._tokenizer().save_pretrained(partial)
        shutil.rmtree(self._folder / _WEIGHTS, ignore_errors=True)
        partial.replace(self._folder / _WEIGHTS)

    def _result(
        self, trainer: Any, num_rows: int, checkpoint: Path | None, seconds: float
    ) -> Finetuned:
        steps = int(trainer.state.global_step)
        resumed = int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        epochs = self._settings.num_epochs(self.method, num_rows)
        last = losses[-max(1, len(losses) // epochs) :]
        share = (steps - resumed) / max(1, steps)
        trained = [p for p in trainer.model.parameters() if p.requires_grad]
        return Finetuned(
            folder=self._folder / _WEIGHTS,
            method=self.method,
            why=self.why,
            num_rows=num_rows,
            num_parameters=self._num_parameters,
            num_trained_parameters=sum(p.numel() for p in trained),
            steps=steps,
            resumed_from_step=resumed,
            learning_rate=self._settings.rate(self.method),
            final_loss=sum(last) / max(1, len(last)),
            seconds=round(seconds, 3),
            rows_per_second=round(share * num_rows * epochs / seconds, 3),
            dtype=str(trained[0].dtype).removeprefix("torch."),
        )


def _described(
    rows: Sequence[SftRow], base: ModelRef, settings: SftSettings, about: dict[str, Any]
) -> dict[str, Any]:
    digest = hashlib.sha256(json.dumps(list(rows), sort_keys=True).encode()).hexdigest()[:16]
    return {
        **about,
        "base": base.model_dump(mode="json", include={"model", "revision"}),
        "settings": settings.model_dump(mode="json", exclude={"device"}),
        "rows": f"{len(rows)} rows, digest {digest}",
    }


def _saved_dtype(module: PreTrainedModel) -> torch.dtype:
    """Return the type in which weights were saved; on a CPU they may be held in another."""
    dtype = module.config.dtype
    return dtype if isinstance(dtype, torch.dtype) else module.dtype


def _check_lengths(rows: Sequence[SftRow], most: int, *, what: str) -> None:
    longest = max(len(row["input_ids"]) for row in rows)
    if longest > most:
        raise ConfigError(
            f"A row of {longest} tokens does not fit into {what} ({most}).",
            hint="leave out rows that long, or use a model and a max_length that hold them",
        )


def _refuse_many_gpus(device: torch.device) -> None:
    if device.type == "cuda" and torch.cuda.device_count() > 1:
        raise ConfigError(
            f"Training uses one GPU; this process sees {torch.cuda.device_count()}.",
            hint="show it one: CUDA_VISIBLE_DEVICES=0",
        )
