"""The models of a switch and how each is asked: candidates, their prompts and sampling, switchers.

Frozen values; unknown keys are refused. Knows nothing of the rules of a response (`config`), of
torch or of how models are loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from langgraph_switch.engine_specs import EngineSpec, with_tokenizer_source

CANDIDATE_ROLES = ("pretrained", "finetuned", "aligned")

DType: TypeAlias = Literal["auto", "float32", "bfloat16", "float16"]
DeviceMap: TypeAlias = (
    Literal["auto", "balanced", "balanced_low_0", "sequential"] | dict[str, int | str]
)
Offload: TypeAlias = Literal["cpu"]
EosPolicy: TypeAlias = Literal["auto", "end_response", "end_segment", "mask"]
PromptKind: TypeAlias = Literal["auto", "chat", "plain"]
CandidateRole: TypeAlias = Literal["pretrained", "finetuned", "aligned"]
HeadKind: TypeAlias = Literal["linear", "mlp"]


SegmentBoundary: TypeAlias = Literal["length", "sentence", "step", "code"]


class Frozen(BaseModel):
    """A value that refuses unknown keys and changes."""

    # Input is hidden in errors: a key that was put into the wrong place must not be shown.
    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True
    )


class Sampling(Frozen):
    """How the next token, or the next speaker, is drawn from probabilities."""

    temperature: float = Field(default=0.7, ge=0, le=10)
    """Divides the logits; 0 takes the most probable one (greedy)."""
    top_p: float = Field(default=0.9, gt=0, le=1)
    """Keeps the smallest set of most probable options that reaches this mass."""
    top_k: int | None = Field(default=None, ge=1)
    """Keeps at most this many options."""

    @property
    def is_greedy(self) -> bool:
        """Whether the most probable option is always taken."""
        return self.temperature == 0 or self.top_k == 1


GREEDY = Sampling(temperature=0, top_p=1)


class PromptSpec(Frozen):
    """How a candidate reads the conversation."""

    kind: PromptKind = "auto"
    """`chat` uses the tokenizer's template, `plain` the text below. `auto`: plain for the
    pretrained role, whatever its tokenizer carries; chat for others that have a template."""
    plain_template: str = "{query}\n"
    """The text before the response, for a plain candidate; must contain `{query}`."""
    system: str | None = None
    """A system message put before the conversation, for a chat candidate."""
    tools: Literal["template", "text"] = "template"
    """How a chat candidate reads which tools there are: in its chat template's own form, or
    described in the system message, for templates that know of no tools."""

    @field_validator("plain_template")
    @classmethod
    def _has_query(cls, value: str) -> str:
        if "{query}" not in value:
            raise ValueError("must contain {query}, where the question is put")
        return value


ANYWHERE: Final[Mapping[str, Any]] = {"device": "auto", "device_map": None, "offload": None}
"""The fields that say where a model is held, by default: a machine's affair, not a switch's."""


class ModelRef(Frozen):
    """A causal LM: weights by path or Hugging Face repo, and where they are held."""

    model: str = Field(min_length=1)
    """A local folder, a repo id, `./folder` relative to the `switch.json` that names it, or
    `embedded:NAME` for a checkpoint that this package carries."""
    revision: str | None = None
    """Branch, tag or commit of the repo."""
    adapter: str | None = None
    """A LoRA adapter (peft) on top of `model`, by path or repo; needs the extra `peft`."""
    adapter_revision: str | None = None
    device: str = "auto"
    """`auto` (CUDA if there is one), `cpu`, `cuda`, `cuda:1`, `mps`."""
    dtype: DType = "auto"
    """`auto`: as saved on an accelerator; float32 on a CPU for half-precision weights."""
    device_map: DeviceMap | None = None
    """How accelerate spreads the weights over devices, instead of `device`: `auto`, `balanced`,
    `sequential`, or modules by name, e.g. `{"": "cuda:1"}`; needs the extra `accelerate`."""
    offload: Offload | None = None
    """`cpu`: the weights are held there and are on `device` for this model's turns only. Of the
    models of a device that say so, one is there at a time."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        _refuse_two_places(self.device, self.device_map, self.offload)
        return self


def _refuse_two_places(device: str, device_map: DeviceMap | None, offload: Offload | None) -> None:
    if device_map is not None and (offload is not None or device != "auto"):
        raise ValueError(
            "`device_map` places all of a model: leave `device` and `offload` out (to hold a part "
            'on the CPU, map it to "cpu")'
        )


class CandidateSpec(ModelRef):
    """One checkpoint that may take the floor."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
    role: CandidateRole | None = None
    """Its training stage; by default the name, where the name is one of the stages."""
    prompt: PromptSpec = PromptSpec()
    sampling: Sampling | None = None
    """Overrides the switch's sampling for this candidate."""
    tokenizer: str | None = None
    """Fingerprint that its tokenizer has to have, as published with a switcher."""
    eos: EosPolicy = "auto"
    """What its end-of-sequence token does: end the response, end its own segment, or nothing
    (it is masked: a base model's end of document is no end of turn). `auto`: the anchor ends
    the response, anybody else its own segment."""
    engine: EngineSpec | None = None
    """A server that has the weights, instead of this process. `model` then names the tokenizer
    alone, by default the engine's own `model`."""

    _tokenizer_source = model_validator(mode="before")(with_tokenizer_source)

    timeout_s: float | None = Field(default=None, gt=0)
    """Seconds for one of its segments, new tries included; then somebody else goes on. Overrides
    `failover.timeout_s`."""

    @model_validator(mode="before")
    @classmethod
    def _role_from_name(cls, data: Any) -> Any:
        if isinstance(data, dict) and "role" not in data and data.get("name") in CANDIDATE_ROLES:
            return data | {"role": data["name"]}
        return data


class TrainedOn(Frozen):
    """A candidate as a switcher knew it in training."""

    name: str
    model: str
    revision: str | None = None


class LMSwitcherSpec(Frozen):
    """A causal LM that reads who wrote what and names the next speaker (paper, section 3)."""

    kind: Literal["lm"] = "lm"
    model: str | None = None
    """Path or repo of the switcher's weights; or leave it out and name a `candidate`."""
    candidate: str | None = None
    """Use this candidate's weights (with `adapter`, if given) instead of a model of its own."""
    revision: str | None = None
    adapter: str | None = None
    adapter_revision: str | None = None
    device: str = "auto"
    dtype: DType = "auto"
    device_map: DeviceMap | None = None
    offload: Offload | None = None
    prompt: Literal["plain", "chat"] = "plain"
    """`plain` is the paper's text to the letter; `chat` puts it into the user's turn."""
    sampling: Sampling = Sampling(temperature=1.0, top_p=0.9)
    trained_on: tuple[TrainedOn, ...] | None = None
    """The candidates of its rollouts, in the order in which it knows them as model 0, 1, 2 ..."""
    engine: EngineSpec | None = None
    """A server that has the weights, adapter included; `model` or `candidate` then names the
    tokenizer alone."""

    @model_validator(mode="before")
    @classmethod
    def _tokenizer_source(cls, data: Any) -> Any:
        is_a_candidates = isinstance(data, dict) and data.get("candidate")
        return data if is_a_candidates else with_tokenizer_source(data)

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.model is None) == (self.candidate is None):
            raise ValueError("give exactly one of `model` and `candidate`")
        _refuse_two_places(self.device, self.device_map, self.offload)
        return self


class HeadSwitcherSpec(Frozen):
    """A small head on the hidden state of a candidate, which reads the response anyway."""

    kind: Literal["head"] = "head"
    head: str = Field(min_length=1)
    """Folder or repo with `head.safetensors` and `head.json`; `./folder` lies beside the file."""
    revision: str | None = None
    candidate: str | None = None
    """Whose hidden state it reads; by default the anchor's."""
    sampling: Sampling = Sampling(temperature=1.0, top_p=0.9)
    trained_on: tuple[TrainedOn, ...] | None = None
    """The candidates of its rollouts, in the order of its outputs."""


class RandomSwitcherSpec(Frozen):
    """Draws the next speaker at random (the paper's baseline and its rollout policy)."""

    kind: Literal["random"] = "random"
    weights: dict[str, Annotated[float, Field(ge=0)]] | None = None
    """Relative weight per candidate; uniform by default."""


class FixedSwitcherSpec(Frozen):
    """Follows a fixed order of speakers, again and again."""

    kind: Literal["fixed"] = "fixed"
    order: tuple[str, ...] = Field(min_length=1)


SwitcherSpec: TypeAlias = Annotated[
    LMSwitcherSpec | HeadSwitcherSpec | RandomSwitcherSpec | FixedSwitcherSpec,
    Field(discriminator="kind"),
]
