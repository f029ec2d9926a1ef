"""A family on servers: which vLLM servers it takes, their commands, and the switch that uses them.

Weights that several share are served once, adapters (the switcher's, too) on their base. Knows
nothing of how servers are started or asked.
"""

from __future__ import annotations

import importlib.util
import json
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from langgraph_switch.config import LMSwitcherSpec, ModelRef, SwitchConfig
from langgraph_switch.engine_specs import OpenAIEngineSpec
from langgraph_switch.errors import ConfigError

_SWITCHER = "switcher"
_MODULE = "vllm.entrypoints.openai.api_server"
_USUAL_CONTEXT = 4096
_GPU_SHARE = 0.9  # vLLM's own default for one server.
_LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # What --max-lora-rank accepts.
_UNKNOWN_LORA_RANK = 64
_LOCAL_HOSTS = ("127.0.0.1",)

_Base: TypeAlias = tuple[str, str | None, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """Where and how servers are to run."""

    hosts: tuple[str, ...] = _LOCAL_HOSTS
    """Machines; servers go round them."""
    first_port: int = 8000
    max_model_len: int | None = None
    """Tokens of context; by default enough for the switch's responses, 4096 at most unless those
    are longer."""
    api_key_env: str | None = None
    """Environment variable, on every machine, with the key that servers ask for."""
    gpus: tuple[str, ...] = ()
    """A machine's GPUs, one per server in turn; by default its servers share the first."""
    on_cpu: bool = False
    """With vLLM's CPU build: float32 and the block size that it needs."""
    python: str | None = None
    """The Python that has vLLM; by default the `vllm` command, or this Python, or `python`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerPlan:
    """One vLLM server."""

    host: str
    port: int
    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    key_env: str | None = None

    @property
    def url(self) -> str:
        """Where it will be, without a path."""
        return f"http://{self.host}:{self.port}"

    def shell(self) -> str:
        """Return the line to type on its machine; a key is named and not shown."""
        settings = [f"{name}={shlex.quote(value)}" for name, value in self.environment.items()]
        if self.key_env:
            settings.append(f'VLLM_API_KEY="${self.key_env}"')
        return " ".join([*settings, shlex.join(self.command)])


@dataclass(frozen=True, slots=True, kw_only=True)
class ServePlan:
    """All servers of a family, and the switch that uses them."""

    servers: tuple[ServerPlan, ...]
    config: SwitchConfig


@dataclass(slots=True)
class _Weights:
    """One base model, and who is served from it."""

    ref: ModelRef
    names: list[str] = field(default_factory=list)
    adapters: dict[str, str] = field(default_factory=dict)


def plan_servers(config: SwitchConfig, options: ServeOptions) -> ServePlan:
    """Return the servers that a switch's models take.

    Raises:
        ConfigError: A model is on a server already.
    """
    config = config.with_absolute_models()
    bases: dict[_Base, _Weights] = {}
    for spec in config.candidates:
        if spec.engine is not None:
            raise ConfigError(
                f"Candidate {spec.name!r} is on a server already.",
                hint="name a family whose models are folders or repos",
            )
        _add(bases, config, spec, spec.name)
    switcher = config.switcher
    if isinstance(switcher, LMSwitcherSpec) and (switcher.adapter or not switcher.candidate):
        _add(bases, config, config.switcher_model(switcher), _SWITCHER)
    addresses: dict[str, str] = {}
    servers = []
    num_hosts = len(options.hosts)
    on_host = {host: len(list(bases)[i::num_hosts]) for i, host in enumerate(options.hosts)}
    for index, weights in enumerate(bases.values()):
        host = options.hosts[index % num_hosts]
        server = _server(config, weights, index, on_host[host], options)
        servers.append(server)
        for name in (*weights.names, *weights.adapters):
            addresses[name] = f"{server.url}/v1"
    return ServePlan(servers=tuple(servers), config=_using(config, addresses, options))


def _add(bases: dict[_Base, _Weights], config: SwitchConfig, ref: ModelRef, name: str) -> None:
    key = (config.resolve_model(ref.model), ref.revision, ref.dtype)
    weights = bases.setdefault(key, _Weights(ref))
    if ref.adapter:
        weights.adapters[name] = config.resolve_model(ref.adapter)
    else:
        weights.names.append(name)


def _server(
    config: SwitchConfig, weights: _Weights, index: int, num_on_host: int, options: ServeOptions
) -> ServerPlan:
    host, round_ = options.hosts[index % len(options.hosts)], index // len(options.hosts)
    port = options.first_port + (index if len(options.hosts) == 1 else round_)
    model = config.resolve_model(weights.ref.model)
    arguments = ["--served-model-name", *(weights.names or [f"base-{index}"])]
    arguments += ["--host", host, "--port", str(port)]
    arguments += ["--max-model-len", str(options.max_model_len or _context(config, model))]
    arguments += ["--enable-prefix-caching", "--enable-prompt-tokens-details"]
    arguments += ["--generation-config", "vllm"]
    if weights.ref.revision:
        arguments += ["--revision", weights.ref.revision]
    environment: dict[str, str] = {}
    if options.on_cpu:
        arguments += ["--dtype", "float32", "--enforce-eager", "--block-size", "32"]
        environment["VLLM_CPU_KVCACHE_SPACE"] = "1"
    else:
        if weights.ref.dtype != "auto":
            arguments += ["--dtype", weights.ref.dtype]
        if options.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = options.gpus[round_ % len(options.gpus)]
        num_sharing = -(-num_on_host // max(1, len(options.gpus)))
        arguments += ["--gpu-memory-utilization", f"{_GPU_SHARE / num_sharing:.2f}"]
    if weights.adapters:
        arguments += ["--enable-lora", "--max-lora-rank", str(_lora_rank(weights.adapters))]
        arguments += ["--lora-modules", *(f"{n}={path}" for n, path in weights.adapters.items())]
    return ServerPlan(
        host=host,
        port=port,
        command=(*_program(model, host, options), *arguments),
        environment=environment,
        key_env=options.api_key_env,
    )


def _program(model: str, host: str, options: ServeOptions) -> tuple[str, ...]:
    """Return how vLLM is called: not every build brings the `vllm` command."""
    if options.python is None and shutil.which("vllm"):
        return ("vllm", "serve", model)
    is_here = host in _LOCAL_HOSTS and importlib.util.find_spec("vllm") is not None
    python = options.python or (sys.executable if is_here else "python")
    return (python, "-m", _MODULE, "--model", model)


def _context(config: SwitchConfig, model: str) -> int:
    wanted = max(_USUAL_CONTEXT, 2 * config.max_tokens)
    known = _read_json(Path(model) / "config.json").get("max_position_embeddings")
    return min(wanted, known) if isinstance(known, int) else wanted


def _lora_rank(adapters: dict[str, str]) -> int:
    """Return the least rank that vLLM accepts and all adapters fit into."""
    found = [_read_json(Path(path) / "adapter_config.json").get("r") for path in adapters.values()]
    ranks = [rank if isinstance(rank, int) else _UNKNOWN_LORA_RANK for rank in found]
    return next((rank for rank in _LORA_RANKS if rank >= max(ranks)), _LORA_RANKS[-1])


def _read_json(file: Path) -> dict[str, Any]:
    """Return what a local file holds; repos are not looked at."""
    if not file.is_file():
        return {}
    found = json.loads(file.read_text(encoding="utf-8"))
    return found if isinstance(found, dict) else {}


def _using(config: SwitchConfig, addresses: dict[str, str], options: ServeOptions) -> SwitchConfig:
    """Return the switch, its models asked at their servers."""

    def engine(name: str) -> OpenAIEngineSpec:
        return OpenAIEngineSpec(
            base_url=addresses[name], model=name, api_key_env=options.api_key_env
        )

    candidates: Sequence[Any] = [
        spec.model_copy(
            update={"engine": engine(spec.name), "adapter": None, "adapter_revision": None}
        )
        for spec in config.candidates
    ]
    switcher = config.switcher
    if _SWITCHER in addresses and isinstance(switcher, LMSwitcherSpec):
        switcher = switcher.model_copy(
            update={"engine": engine(_SWITCHER), "adapter": None, "adapter_revision": None}
        )
    return config.with_changes(candidates=tuple(candidates), switcher=switcher)
