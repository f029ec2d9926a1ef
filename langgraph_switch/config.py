"""One frozen description of a whole switch, and its file, `switch.json`.

Everything that decides what a response looks like is here and nowhere else. Unknown keys are
refused. This module does not know torch, LangGraph or how models are loaded.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, PrivateAttr, field_validator, model_validator

from langgraph_switch._version import __version__
from langgraph_switch.errors import ConfigError
from langgraph_switch.model_specs import (
    ANYWHERE,
    CANDIDATE_ROLES,
    GREEDY,
    CandidateRole,
    CandidateSpec,
    DeviceMap,
    DType,
    EosPolicy,
    FixedSwitcherSpec,
    Frozen,
    HeadKind,
    HeadSwitcherSpec,
    LMSwitcherSpec,
    ModelRef,
    Offload,
    PromptKind,
    PromptSpec,
    RandomSwitcherSpec,
    Sampling,
    SegmentBoundary,
    SwitcherSpec,
    TrainedOn,
)
from langgraph_switch.validation import validated

__all__ = [
    "ANYWHERE",
    "CANDIDATE_ROLES",
    "EMBEDDED",
    "GREEDY",
    "SCHEMA_VERSION",
    "AnchorSpec",
    "CandidateRole",
    "CandidateSpec",
    "DType",
    "DeviceMap",
    "EosPolicy",
    "FailoverSpec",
    "FixedSwitcherSpec",
    "HeadKind",
    "HeadSwitcherSpec",
    "LMSwitcherSpec",
    "LimitsSpec",
    "ModelRef",
    "Offload",
    "PolicySpec",
    "PromptKind",
    "PromptSpec",
    "RandomSwitcherSpec",
    "Sampling",
    "SegmentBoundary",
    "SegmentSpec",
    "SoloConfig",
    "SwitchConfig",
    "SwitcherSpec",
    "ToolsSpec",
    "TrainedOn",
]

SCHEMA_VERSION = 1
EMBEDDED = "embedded:"
"""Begins a reference to a model that this package carries."""
_EMBEDDED_FOLDER = Path(__file__).resolve().parent / "tiny"


class SegmentSpec(Frozen):
    """How long a speaker keeps the floor."""

    max_tokens: int = Field(default=50, ge=1, le=100_000)
    end_at: SegmentBoundary = "length"
    """Where the floor is given back, at the latest after `max_tokens`, so that hand-overs do not
    cut a thought: `sentence` (the end of a sentence or line), `step` (the end of a line), `code`
    (the end of a code block)."""
    keep_blocks: bool = False
    """Whoever opens a code block, a JSON object or a tool call keeps the floor until it is
    closed. Where tools or a grammar are given, this is so in any case."""


class AnchorSpec(Frozen):
    """The candidate that opens and closes every response, without asking the switcher."""

    candidate: str | None = None
    """By default the candidate of role `aligned`, or else the last one."""
    first: bool = True
    last: bool = True


class ToolsSpec(Frozen):
    """Who may call tools, where a response may."""

    callers: Literal["anchor", "all"] = "anchor"
    """`anchor`: nobody else is told of tools, and what looks like a call of theirs is text."""
    anchor_after_result: bool = True
    """Whether the anchor writes the first segment behind a tool's result."""


class PolicySpec(Frozen):
    """What is asked of the switcher without training it again."""

    priors: dict[str, float] = Field(default_factory=dict)
    """Per candidate a number that is added to its logit, e.g. -1 for an expensive one."""
    budgets: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict)
    """Per candidate the share of a response's tokens that it may write at most."""
    keep_floor_above: float | None = Field(default=None, ge=0, lt=1)
    """The last speaker keeps the floor while its probability is above this."""


class FailoverSpec(Frozen):
    """What happens when an engine fails in the middle of an answer."""

    enabled: bool = True
    """Try again, then let somebody else go on; otherwise the first error ends the answer."""
    max_attempts: int = Field(default=3, ge=1, le=100)
    """Calls for one segment, the first included; only errors that may pass are tried again."""
    initial_wait_s: float = Field(default=0.5, ge=0)
    """Longest wait before the second call; it doubles from call to call, and is drawn at random
    below that."""
    max_wait_s: float = Field(default=8, ge=0)
    """Longest wait between two calls. A server that asks for more is not waited for."""
    timeout_s: float = Field(default=120, gt=0)
    """Seconds for one segment, new tries included."""
    cooldown_s: float = Field(default=30, ge=0)
    """Seconds for which nobody asks a candidate that has failed, as long as others are there."""
    without_switcher: Literal["anchor", "last_speaker", "error"] = "anchor"
    """Who writes while the switcher's own model fails."""


class LimitsSpec(Frozen):
    """What the machine may be asked for."""

    kv_cache_bytes: int = Field(default=2 * 2**30, ge=0)
    """Bytes of keys and values that each model keeps between segments. Fewer cost time, never
    change a result."""
    live_traces: int = Field(default=64, ge=1)
    """Most responses of one batch that are in progress at the same time; fewer, where
    `kv_cache_bytes` would not hold so many."""


class SwitchConfig(Frozen):
    """A whole switch: candidates, switcher and every rule of a response.

    `load` reads a `switch.json`, `save` writes one; both directions lose nothing.
    """

    schema_version: Literal[1] = 1
    candidates: tuple[CandidateSpec, ...]
    """At least two, in the order in which the switcher knows them as model 0, 1, 2 ..."""
    switcher: SwitcherSpec = RandomSwitcherSpec()
    segment: SegmentSpec = SegmentSpec()
    max_tokens: int = Field(default=512, ge=1)
    """Most tokens of a response."""
    sampling: Sampling = Sampling()
    anchor: AnchorSpec = AnchorSpec()
    tools: ToolsSpec = ToolsSpec()
    policy: PolicySpec = PolicySpec()
    answer_cue: str | None = Field(default=None, min_length=1)
    """Text put before the last segment, e.g. " The final answer is" (paper, objective tasks)."""
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Strings that end the response."""
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    """Seed of every draw; None draws a new one per call and records it."""
    limits: LimitsSpec = LimitsSpec()
    failover: FailoverSpec = FailoverSpec()

    _base_dir: Path | None = PrivateAttr(default=None)

    _min_candidates: ClassVar[int] = 2

    @model_validator(mode="before")
    @classmethod
    def _without_writer(cls, data: Any) -> Any:
        """Drop who wrote a `switch.json`: it does not change what the file says."""
        is_file = isinstance(data, dict) and "package_version" in data
        return {k: v for k, v in data.items() if k != "package_version"} if is_file else data

    @field_validator("candidates")
    @classmethod
    def _enough_distinct_names(cls, value: tuple[CandidateSpec, ...]) -> tuple[CandidateSpec, ...]:
        if len(value) < cls._min_candidates:
            raise ValueError(
                f"needs at least {cls._min_candidates} candidates to switch between, "
                f"got {len(value)}"
            )
        names = [candidate.name for candidate in value]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"duplicate candidate name {twice[0]!r}: give each its own")
        return value

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        named: dict[str, list[str | None]] = {
            "anchor.candidate": [self.anchor.candidate],
            "policy.priors": list(self.policy.priors),
            "policy.budgets": list(self.policy.budgets),
        }
        match self.switcher:
            case LMSwitcherSpec(candidate=name) | HeadSwitcherSpec(candidate=name):
                named["switcher.candidate"] = [name]
            case RandomSwitcherSpec(weights=weights) if weights is not None:
                named["switcher.weights"] = list(weights)
                if not any(weights.values()):
                    raise ValueError("switcher.weights: at least one must be above 0")
            case FixedSwitcherSpec(order=order):
                named["switcher.order"] = list(order)
        for path, names in named.items():
            for name in names:
                if name is not None and name not in self.names:
                    known = ", ".join(self.names)
                    raise ValueError(f"{path}: no candidate is named {name!r}; there are {known}")
        return self

    @model_validator(mode="after")
    def _switcher_knows_this_order(self) -> Self:
        known = getattr(self.switcher, "trained_on", None)
        if known and tuple(one.name for one in known) != self.names:
            trained = ", ".join(one.name for one in known)
            raise ValueError(
                f"switcher: it was trained for {trained}, in this order; here are "
                f"{', '.join(self.names)}"
            )
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The candidates' names in order."""
        return tuple(candidate.name for candidate in self.candidates)

    @property
    def anchor_name(self) -> str:
        """The candidate that opens and closes, if `anchor.first` or `anchor.last` say so."""
        if self.anchor.candidate is not None:
            return self.anchor.candidate
        aligned = [c.name for c in self.candidates if c.role == "aligned"]
        return aligned[-1] if aligned else self.candidates[-1].name

    def candidate(self, name: str) -> CandidateSpec:
        """Return the candidate of that name.

        Raises:
            KeyError: No candidate has it.
        """
        for candidate in self.candidates:
            if candidate.name == name:
                return candidate
        raise KeyError(name)

    def switcher_model(self, spec: LMSwitcherSpec) -> ModelRef:
        """Return the switcher's model; on a candidate's base only the adapter is its own."""
        if spec.candidate is None:
            return ModelRef.model_validate(spec.model_dump(include=set(ModelRef.model_fields)))
        base = self.candidate(spec.candidate)
        own = spec if spec.adapter else base
        fields = base.model_dump(include=set(ModelRef.model_fields))
        adapter = {"adapter": own.adapter, "adapter_revision": own.adapter_revision}
        return ModelRef.model_validate(fields | adapter)

    def eos_policy(
        self, candidate: CandidateSpec
    ) -> Literal["end_response", "end_segment", "mask"]:
        """Return what a candidate's end-of-sequence token does, with `auto` resolved."""
        if candidate.eos != "auto":
            return candidate.eos
        return "end_response" if candidate.name == self.anchor_name else "end_segment"

    def timeout_of(self, candidate: CandidateSpec) -> float:
        """Return the seconds that a candidate has for a segment."""
        return candidate.timeout_s or self.failover.timeout_s

    def is_served(self, switcher: LMSwitcherSpec) -> bool:
        """Return whether a server holds the switcher's weights, or those of its candidate."""
        if switcher.engine is not None:
            return True
        return bool(switcher.candidate and self.candidate(switcher.candidate).engine)

    def sampling_of(self, candidate: CandidateSpec) -> Sampling:
        """Return how a candidate's tokens are drawn."""
        return candidate.sampling or self.sampling

    def _model_references(self) -> list[str]:
        specs = [*self.candidates, self.switcher]
        named = [spec for spec in specs if isinstance(spec, ModelRef | LMSwitcherSpec)]
        found = [ref for spec in named for ref in (spec.model, spec.adapter) if ref is not None]
        return [*found, self.switcher.head] if self.switcher.kind == "head" else found

    def _refuse_escapes(self, file: Path) -> None:
        for reference in self._model_references():
            inside = Path(self.resolve_model(reference)).resolve()
            if reference.startswith("./") and not inside.is_relative_to(file.parent.resolve()):
                raise ConfigError(
                    f"{str(file)!r} names {reference!r}, which lies outside of its folder.",
                    hint="name a folder beside the file, an absolute path or a repo",
                )

    def resolve_model(self, model: str) -> str:
        """Return a model reference as it is loaded.

        `./folder` lies beside the loaded file, `embedded:NAME` is carried by this package.
        """
        if model.startswith(EMBEDDED):
            return str(_EMBEDDED_FOLDER / model.removeprefix(EMBEDDED))
        if self._base_dir is not None and model.startswith("./"):
            return str(self._base_dir / model[2:])
        return model

    def with_absolute_models(self) -> Self:
        """Return a copy that can be kept anywhere: `./folder` references are resolved.

        What this package carries becomes `embedded:NAME`, so it is found on any machine.
        """
        data = self.to_dict()
        for spec in (*data["candidates"], data.get("switcher", {})):
            for key in {"model", "adapter", "head"} & spec.keys():
                resolved = self.resolve_model(spec[key])
                is_embedded = Path(resolved).parent == _EMBEDDED_FOLDER
                spec[key] = f"{EMBEDDED}{Path(resolved).name}" if is_embedded else resolved
        return self.from_dict(data)

    def with_changes(self, **changes: Any) -> Self:
        """Return a validated copy with some top-level fields replaced.

        Raises:
            ConfigError: The changed configuration is invalid.
        """
        data = {name: getattr(self, name) for name in type(self).model_fields} | changes
        changed = validated(type(self), data)
        changed._base_dir = self._base_dir  # noqa: SLF001
        return changed

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Validate plain JSON types.

        Raises:
            ConfigError: Something is missing, unknown or out of range; says where.
        """
        return validated(cls, data)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a `switch.json`, or the one inside a folder.

        Raises:
            ConfigError: The file is missing, is no JSON, or describes no valid switch.
        """
        file = Path(path)
        file = file / "switch.json" if file.is_dir() else file
        try:
            data = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError as err:
            raise ConfigError(
                f"There is no configuration at {str(path)!r}.",
                hint="name a switch.json, or a folder that holds one",
            ) from err
        except (OSError, UnicodeDecodeError) as err:
            raise ConfigError(f"Cannot read {str(file)!r}: {err}") from err
        except json.JSONDecodeError as err:
            raise ConfigError(
                f"{str(file)!r} is no valid JSON: {err.msg} at line {err.lineno}, "
                f"column {err.colno}.",
                hint="correct that line",
            ) from err
        if not isinstance(data, dict):
            raise ConfigError(
                f"{str(file)!r} holds a {type(data).__name__}, not an object.",
                hint='start from {"candidates": [...]}',
            )
        _refuse_newer_schema(data, file)
        config = validated(cls, data, where=str(file))
        if "./" in {ref[:2] for ref in config._model_references()}:  # noqa: SLF001
            config._base_dir = file.parent.resolve()  # noqa: SLF001
            config._refuse_escapes(file)  # noqa: SLF001
        return config

    def save(self, path: str | Path) -> Path:
        """Write a `switch.json` (into the folder, where `path` is one) and return its path."""
        file = Path(path)
        file = file / "switch.json" if file.is_dir() else file
        data = self.to_dict() | {"package_version": __version__}
        text = json.dumps(data, indent=2, ensure_ascii=False)
        file.write_text(text + "\n", encoding="utf-8")
        return file

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types, without what is at its default of None."""
        return self.model_dump(mode="json", exclude_none=True)


class SoloConfig(SwitchConfig):
    """A switch with one candidate and nobody to switch to: a plain checkpoint."""

    _min_candidates: ClassVar[int] = 1


def _refuse_newer_schema(data: dict[str, Any], file: Path) -> None:
    version = data.get("schema_version", SCHEMA_VERSION)
    if isinstance(version, int) and version > SCHEMA_VERSION:
        writer = data.get("package_version")
        package = "langgraph-switch" if writer is None else f"langgraph-switch>={writer}"
        raise ConfigError(
            f"{str(file)!r} has schema version {version}; this package ({__version__}) reads up to "
            f"{SCHEMA_VERSION}.",
            hint=f"it takes a newer one: pip install --upgrade '{package}'",
        )
