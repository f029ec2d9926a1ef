"""Loading weights and tokenizers: once per distinct base, safetensors only, no foreign code.

Every failure becomes a `ModelLoadError` that names the source and what to do. Knows nothing of
candidates or of how tokens are generated.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from langgraph_switch.config import DeviceMap, DType, Offload
from langgraph_switch.engines.load_errors import first_line, load_error
from langgraph_switch.engines.memory import kv_bytes_per_token
from langgraph_switch.engines.own_code import refuse_code_of_others
from langgraph_switch.engines.packed_linear import pack_linears, unpack_linears
from langgraph_switch.engines.placement import Placement
from langgraph_switch.engines.repos import (
    ADAPTER_FILES,
    CODE_FILES,
    MODEL_FILES,
    TOKENIZER_FILES,
    fetch_repo,
)
from langgraph_switch.engines.sharing import make_meeting
from langgraph_switch.engines.tokenizer import HFTokenizer, Tokenizer
from langgraph_switch.errors import (
    ConfigError,
    EngineOutOfMemoryError,
    MissingExtraError,
    ModelLoadError,
    UnsafeWeightsError,
)

if TYPE_CHECKING:
    from langgraph_switch.engines.adapter_stack import AdapterStack, RowAdapters

_ADAPTER_WEIGHTS = "adapter_model.safetensors"
_BESIDE_WEIGHTS = (
    "adapter_config.json",
    "generation_config.json",
    "tokenizer*.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "chat_template.jinja",
)
_UNLIMITED_CONTEXT = 2**31
_SUPPORTED_LAYERS = {"full_attention", "sliding_attention"}
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")


class SharedModel:
    """One base model's weights, with any adapters on it, and the lock of their device."""

    def __init__(
        self,
        module: PreTrainedModel,
        *,
        source: str,
        tokenizer: Tokenizer,
        placement: Placement | None = None,
    ) -> None:
        """Serve an already loaded model, by default where it is.

        Raises:
            ModelLoadError: Its layers keep a state that cannot be cut back to a prefix.
        """
        _check_layers(module, source)
        self.module = module
        module.train(mode=False)
        self.source = source
        self.tokenizer = tokenizer
        self.placement = placement or Placement(module, source=source)
        self.lock = self.placement.turn
        self.meeting = make_meeting(self.lock)
        """Where requests to the base and to its adapters meet, to share passes."""
        config = module.config.get_text_config()
        self.max_context_tokens = int(
            getattr(config, "max_position_embeddings", None) or _UNLIMITED_CONTEXT
        )
        self.eos_token_ids = eos_token_ids(module.generation_config, config)
        self.vocab_size = _num_embeddings(module)
        self.kv_bytes_per_token = kv_bytes_per_token(
            config.to_dict(), element_bytes=module.dtype.itemsize
        )
        self._adapters: dict[str, _Adapter] = {}
        self._active: str | None = None
        self._peft: Any = None
        self._stack: AdapterStack | None = None
        self._is_packed = False

    def pack(self) -> None:
        """Let a CPU read the weights faster; only for a module that nobody else uses.

        Where it moves or lies on several devices, it stays as it is.
        """
        if self.placement.is_in_one_place and self.placement.device.type == "cpu":
            with self.lock:
                pack_linears(self.module)
                self._is_packed = True

    def add_adapter(self, source: str, revision: str | None = None) -> str:
        """Load a LoRA adapter beside the base weights and return its name.

        Raises:
            MissingExtraError: peft is not installed.
            ModelLoadError: There is no such adapter, it is pickled, or it does not fit.
        """
        try:
            from peft import PeftModel  # noqa: PLC0415 - an extra, needed here alone
        except ImportError as err:
            raise MissingExtraError("A LoRA adapter", extra="peft") from err
        name = f"adapter_{len(self._adapters)}"
        folder = _adapter_folder(source, revision)
        with self.lock, self._plain_weights():
            try:
                if self._peft is None:  # Injects layers into the module; its weights stay put.
                    self._peft = PeftModel.from_pretrained(
                        self.module, folder, adapter_name=name, autocast_adapter_dtype=False
                    )
                else:
                    self._peft.load_adapter(folder, adapter_name=name, autocast_adapter_dtype=False)
                self._adapters[name] = self._read_adapter(folder)
            except Exception as err:
                raise load_error(source, err) from err
            self.module.train(mode=False)
            self._share_ends(name)
            self._stack = None
            self._active = name
            self.activate(None)
        return name

    def tokenizer_of(self, adapter: str | None) -> Tokenizer:
        """Return the tokenizer that an adapter brings along (its chat template), or the base's."""
        own = self._adapters[adapter].tokenizer if adapter else None
        return own or self.tokenizer

    def eos_token_ids_of(self, adapter: str | None) -> tuple[int, ...]:
        """Return the tokens that end a turn: those an adapter brings along, or the base's."""
        own = self._adapters[adapter].eos_token_ids if adapter else ()
        return own or self.eos_token_ids

    def can_mix(self) -> bool:
        """Return whether one pass can serve rows of different adapters.

        Stacked factors stay where they were made: a model that moves, or lies on several devices,
        serves one adapter at a time.
        """
        if not self._adapters or not self.placement.is_in_one_place:
            return False
        from langgraph_switch.engines.adapter_stack import can_stack  # noqa: PLC0415 - imports peft

        return self._stack is not None or can_stack(self.module)

    def stack(self) -> AdapterStack:
        """Return the adapters side by side, for passes that mix them. Call with `lock` held."""
        from langgraph_switch.engines.adapter_stack import AdapterStack  # noqa: PLC0415 - peft

        if self._stack is None:
            self._stack = AdapterStack(self.module)
        return self._stack

    def rows_of(self, adapters: Sequence[str | None]) -> RowAdapters:
        """Return the rows of a pass that mixes adapters, each with its own; None is the base."""
        from langgraph_switch.engines.adapter_stack import RowAdapters  # noqa: PLC0415 - peft

        return RowAdapters(adapters, self.module.device)

    @contextlib.contextmanager
    def _plain_weights(self) -> Iterator[None]:
        """Have plain linear layers, as peft expects them."""
        if self._is_packed:
            unpack_linears(self.module)
        try:
            yield
        finally:
            if self._is_packed:
                pack_linears(self.module)

    def _share_ends(self, name: str) -> None:
        from langgraph_switch.engines.adapter_stack import share_ends  # noqa: PLC0415 - peft

        head = self.module.get_output_embeddings()  # type: ignore[no-untyped-call]
        share_ends(self.module.get_input_embeddings(), head, name)

    def _read_adapter(self, folder: str) -> _Adapter:
        """Read what an adapter's folder holds besides weights."""
        has_tokenizer = (Path(folder) / "tokenizer_config.json").is_file()
        has_endings = (Path(folder) / "generation_config.json").is_file()
        tokenizer = has_tokenizer and AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        return _Adapter(
            tokenizer=HFTokenizer(tokenizer) if tokenizer else None,
            eos_token_ids=eos_token_ids(GenerationConfig.from_pretrained(folder))
            if has_endings
            else (),
        )

    def activate(self, adapter: str | None) -> None:
        """Make forward passes use an adapter, or the bare weights. Call with `lock` held.

        Raises:
            EngineOutOfMemoryError: The device cannot hold weights that are brought for this turn.
        """
        self.placement.arrive()
        if adapter == self._active:
            return
        tuner = self._peft.base_model
        if adapter is None:
            tuner.disable_adapter_layers()
        else:
            if self._active is None:
                tuner.enable_adapter_layers()
            tuner.set_adapter(adapter)
        self._active = adapter


@dataclass(frozen=True, slots=True)
class _Adapter:
    """What an adapter brings along besides its weights."""

    tokenizer: Tokenizer | None
    eos_token_ids: tuple[int, ...]


def load_shared_model(
    source: str,
    *,
    revision: str | None = None,
    device: str = "auto",
    dtype: DType = "auto",
    device_map: DeviceMap | None = None,
    offload: Offload | None = None,
    trust_remote_code: bool = False,
) -> SharedModel:
    """Load weights and tokenizer from a local folder or a Hugging Face repo.

    Args:
        source: Folder or repo; of a repo, all files are those of one commit.
        revision: Branch, tag or commit of the repo.
        device: Where it computes, unless `device_map` says so.
        dtype: Precision of the weights.
        device_map: How accelerate spreads it over devices.
        offload: `cpu`: its weights are on `device` for its turns only.
        trust_remote_code: Whether its own code may be run; the user has said so by name.

    Raises:
        ConfigError: This machine has no such device.
        MissingExtraError: accelerate is needed and not installed.
        ModelLoadError: The source does not exist, is offline or gated, or lacks a file.
        UnsafeWeightsError: It has pickled weights only, or wants its own code to be run.
        EngineOutOfMemoryError: The device cannot hold the weights.
    """
    target = resolve_device(device)
    if device_map is not None and find_spec("accelerate") is None:
        raise MissingExtraError("`device_map`", extra="accelerate")
    folder = model_folder(source, revision=revision, with_code=trust_remote_code)
    _refuse_pickled_folder(source, "model*.safetensors")
    if trust_remote_code:
        refuse_code_of_others(folder, source)
    code = _code_options(folder, source, trust_remote_code=trust_remote_code)
    tokenizer = _tokenizer_in(folder, source, code)
    try:
        with _QuietTransformers():
            module = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=_torch_dtype(dtype),
                device_map=device_map,
                use_safetensors=True,
                **code,
            )
        module.name_or_path = module.config.name_or_path = source
        placement = _placed(module, source, target=target, dtype=dtype, offload=offload)
    except (RuntimeError, MemoryError) as err:
        if isinstance(err, MemoryError | torch.OutOfMemoryError) or "allocate" in str(err):
            raise EngineOutOfMemoryError(
                f"{target} has too little memory for the weights of {source!r}.",
                hint="give this model another `device`, a smaller `dtype`, a `device_map`, or "
                '`"offload": "cpu"`',
            ) from err
        raise load_error(source, err) from err
    except Exception as err:
        raise load_error(source, err) from err
    return SharedModel(module, source=source, tokenizer=tokenizer, placement=placement)


def _placed(
    module: PreTrainedModel,
    source: str,
    *,
    target: torch.device,
    dtype: DType,
    offload: Offload | None,
) -> Placement:
    """Put a loaded model where it belongs."""
    is_spread = "hf_device_map" in vars(module)
    home = torch.device("cpu") if offload == "cpu" else target
    placed = Placement(module, source=source)
    computes_on = placed.devices if is_spread else (target,)
    if dtype == "auto" and {one.type for one in computes_on} == {"cpu"}:
        torch.nn.Module.to(module, dtype=torch.float32)
    if is_spread:
        return placed
    torch.nn.Module.to(module, device=home)
    is_offloaded = offload == "cpu" and target.type != "cpu"
    return Placement(module, device=target, is_offloaded=is_offloaded, source=source)


def model_folder(source: str, *, revision: str | None = None, with_code: bool = False) -> str:
    """Return a local folder with a model's files, fetched from the Hub if need be.

    Raises:
        ModelLoadError: The source does not exist, is offline or gated, or arrived damaged.
    """
    _check_source(source)
    if Path(source).is_dir():
        return source
    files = (*MODEL_FILES, *CODE_FILES) if with_code else MODEL_FILES
    return str(fetch_repo(source, files, revision=revision))


def load_tokenizer(source: str, *, revision: str | None = None) -> Tokenizer:
    """Load a tokenizer from a local folder or a Hugging Face repo.

    Raises:
        ModelLoadError: The source does not exist, is offline or gated, or has no tokenizer.
    """
    _check_source(source)
    folder = source
    if not Path(source).is_dir():
        folder = str(fetch_repo(source, TOKENIZER_FILES, revision=revision))
    return _tokenizer_in(folder, source, _code_options(folder, source, trust_remote_code=False))


def _code_options(folder: str, source: str, *, trust_remote_code: bool) -> dict[str, Any]:
    """Return whether code may be run; a repo's own is that of the commit that was fetched."""
    options: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    if trust_remote_code and folder != source:
        options["code_revision"] = Path(folder).name  # The Hub's cache calls it by the commit.
    return options


def _tokenizer_in(folder: str, source: str, code: dict[str, Any]) -> Tokenizer:
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **code)
    except Exception as err:
        error = load_error(source, err)
        if type(error) is ModelLoadError:
            error = ModelLoadError(
                source,
                f"it lacks a usable tokenizer ({first_line(err)})",
                hint="save the model's tokenizer there: tokenizer.save_pretrained(folder)",
            )
        raise error from err
    return HFTokenizer(tokenizer)


def resolve_device(device: str) -> torch.device:
    """Return the device meant by `auto`, `cpu`, `cuda`, `cuda:1`, `mps` ...

    Raises:
        ConfigError: torch does not know it, or this machine does not have it.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError, NotImplementedError) as err:
        raise ConfigError(
            f"This machine has no device {device!r}: {first_line(err)}",
            hint=f"use one of: {', '.join(available_devices())}",
        ) from err
    return resolved


def available_devices() -> list[str]:
    """Return the devices that models can be put on here."""
    found = ["auto", "cpu"]
    found += [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        found.append("mps")
    return found


class _QuietTransformers:
    """Keeps transformers' own progress bars off the screen, and restores them."""

    def __enter__(self) -> None:
        self._was_enabled = transformers_logging.is_progress_bar_enabled()
        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]

    def __exit__(self, *_: object) -> None:
        if self._was_enabled:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _check_source(source: str) -> None:
    path = Path(source).expanduser()
    is_path = source.startswith(("/", "./", "../", "~")) or source.count("/") > 1
    if is_path and not path.is_dir():
        raise ModelLoadError(
            source,
            "there is no such folder.",
            hint="check the path; a Hub repo is named like 'user/model'",
        )
    if path.is_dir() and not (path / "config.json").is_file():
        raise ModelLoadError(
            source,
            "the folder holds no config.json.",
            hint="name the folder that save_pretrained wrote",
        )


def _refuse_pickled_folder(source: str, safetensors: str) -> None:
    path = Path(source)
    if not path.is_dir() or any(path.glob(safetensors)):
        return
    if pickled := sorted(file.name for kind in _PICKLED for file in path.glob(kind)):
        raise UnsafeWeightsError(
            source,
            f"it has pickled weights only ({pickled[0]}), which can run code and are refused.",
            hint="convert it: load it once in a safe place and call save_pretrained(folder)",
        )


def _adapter_folder(source: str, revision: str | None) -> str:
    """Return a local folder with an adapter, fetched from the Hub if need be."""
    if Path(source).is_dir():
        _refuse_pickled_folder(source, _ADAPTER_WEIGHTS)
        return source
    folder = str(fetch_repo(source, ADAPTER_FILES, revision=revision))
    if not (Path(folder) / _ADAPTER_WEIGHTS).is_file():
        raise UnsafeWeightsError(
            source,
            f"it has no {_ADAPTER_WEIGHTS}; pickled adapters are refused, for they can run code.",
            hint="save it again with a current peft",
        )
    return folder


def _check_layers(module: PreTrainedModel, source: str) -> None:
    config = module.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or []) - _SUPPORTED_LAYERS
    if kinds or getattr(module, "_is_stateful", False):
        what = ", ".join(sorted(kinds)) or "recurrent"
        raise ModelLoadError(
            source,
            f"it has {what} layers, whose state cannot be cut back to a prefix.",
            hint="use a checkpoint with attention layers only",
        )


def _torch_dtype(dtype: DType) -> Any:
    return "auto" if dtype == "auto" else getattr(torch, dtype)


def _num_embeddings(module: PreTrainedModel) -> int:
    weight = module.get_input_embeddings().weight
    assert isinstance(weight, torch.Tensor)  # noqa: S101 - tells the type checker
    return weight.shape[0]


def eos_token_ids(*configs: Any) -> tuple[int, ...]:
    """Return the end-of-sequence tokens that generation and model configurations name."""
    found: list[int] = []
    for config in configs:
        eos = getattr(config, "eos_token_id", None)
        found += eos if isinstance(eos, list) else [] if eos is None else [eos]
    return tuple(dict.fromkeys(found))
