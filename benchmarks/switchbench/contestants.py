"""The three ways to write a response that are compared, behind one `run`.

Each writes exactly the asked number of tokens per prompt: EOS is never generated.
"""

from __future__ import annotations

import copy
import gc
import time
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol, Self
from uuid import UUID

import torch
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.outputs import LLMResult
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from langgraph_switch import SwitchConfig, SwitchLLM
from langgraph_switch.engines.memory import kv_bytes_per_token, row_capacity
from langgraph_switch.engines.models import SharedModel
from langgraph_switch.engines.packed_linear import pack_linears
from langgraph_switch.engines.tokenizer import HFTokenizer
from langgraph_switch.engines.transformers_engine import TransformersEngine
from langgraph_switch.loop import finish_traces
from langgraph_switch.queries import trace_from_query
from langgraph_switch.switchers.base import Turn
from switchbench.cost_model import Rates, measure_rates
from switchbench.models import Size, make_model, make_prompts, make_tokenizer, num_parameters
from switchbench.probe import BusyTime, Clock, TimedEngine
from switchbench.published_loop import PublishedLoop

NAMES = ("pretrained", "finetuned", "aligned")
SWITCHER = "switcher"
TEMPERATURE, TOP_P = 0.7, 0.9
WARM_UP_SEGMENT_TOKENS = 4
KV_CACHE_BYTES = {"cpu": 2 * 2**30, "cuda": 12 * 2**30}


@dataclass(frozen=True, slots=True)
class Job:
    """What one run has to do."""

    prompts: tuple[str, ...]
    max_tokens: int
    segment_tokens: int
    greedy: bool
    seed: int

    @property
    def num_segments(self) -> int:
        """Segments of every response."""
        return -(-self.max_tokens // self.segment_tokens)


@dataclass(slots=True)
class Run:
    """What one run took."""

    wall_s: float
    cpu_s: float
    num_tokens: int
    speakers: list[list[str]] = field(default_factory=list)
    clocks: dict[str, Clock] = field(default_factory=dict)
    busy_s: float = 0.0
    """Seconds in which any engine of the switch was at work."""
    busy_cpu_s: float = 0.0
    switcher_tokens: list[int] = field(default_factory=list)
    """Tokens of every trace's last prompt to the switcher."""
    kv_bytes_foretold: int = 0
    """Of all rows at the end, as a plan would say."""

    @property
    def kv_bytes(self) -> int:
        """Most bytes of keys and values that the engines held, together."""
        return sum(clock.peak_kv_bytes for clock in self.clocks.values())


class Models:
    """Three candidates and a switcher of one size, and prompts."""

    def __init__(self, size: Size, *, seed: int, device: str = "cpu") -> None:
        self.size = size
        self.tokenizer: PreTrainedTokenizerFast = make_tokenizer()
        self.modules: dict[str, PreTrainedModel] = {
            name: make_model(size, self.tokenizer, seed=seed + index, device=device)
            for index, name in enumerate((*NAMES, SWITCHER))
        }
        self._modules_of_ours: dict[str, PreTrainedModel] = {}
        self.num_parameters = num_parameters(self.modules[SWITCHER])

    def prompts(self, count: int, *, seed: int) -> tuple[str, ...]:
        """Return random queries."""
        return tuple(make_prompts(self.tokenizer, count, seed=seed))

    def engine(self, name: str, *, kv_cache_bytes: int | None = None) -> TransformersEngine:
        """Return a new engine of one of the models.

        Args:
            name: A candidate, or the switcher.
            kv_cache_bytes: What it may remember; by default enough for every job.
        """
        module = self._module_of_ours(name)
        tokenizer = HFTokenizer(self.tokenizer)
        default = KV_CACHE_BYTES[module.device.type]
        return TransformersEngine(
            SharedModel(module, source=name, tokenizer=tokenizer),
            tokenizer,
            kv_cache_bytes=default if kv_cache_bytes is None else kv_cache_bytes,
        )

    def _module_of_ours(self, name: str) -> PreTrainedModel:
        """Return a module as `ModelPool` has it: packed on a CPU; the others' stays as it is."""
        if name not in self._modules_of_ours:
            module = self.modules[name]
            if module.device.type == "cpu":
                module = copy.deepcopy(module)
                pack_linears(module)
            self._modules_of_ours[name] = module
        return self._modules_of_ours[name]

    def generate_options(self, job: Job) -> dict[str, Any]:
        """Return options of `generate` that mean what `Ours` does."""
        options: dict[str, Any] = {
            "do_sample": not job.greedy,
            "suppress_tokens": [self.tokenizer.eos_token_id],
            "pad_token_id": self.tokenizer.pad_token_id,
        }
        if not job.greedy:
            options |= {"temperature": TEMPERATURE, "top_p": TOP_P, "top_k": 0}
        return options


class Contestant(Protocol):
    """One way to write responses."""

    name: str

    def run(self, job: Job, schedule: list[list[str]] | None) -> Run:
        """Do the job; `schedule` names the speaker per response and segment, if it is known."""
        ...


class Plain:
    """(a) One model's `generate()` over the whole response."""

    name = "generate"

    def __init__(self, models: Models) -> None:
        self._models = models

    def run(self, job: Job, schedule: list[list[str]] | None = None) -> Run:  # noqa: ARG002
        """Do the job."""
        tokenizer = self._models.tokenizer
        generate: Any = self._models.modules["aligned"].generate
        options = self._models.generate_options(job)
        torch.manual_seed(job.seed)
        with _Stopwatch() as watch:
            inputs = tokenizer(
                [f"{prompt}\n" for prompt in job.prompts], return_tensors="pt", padding=True
            ).to(self._models.modules["aligned"].device)
            output = generate(
                inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                max_new_tokens=job.max_tokens,
                **options,
            )
            new = output[:, inputs["input_ids"].shape[1] :]
            tokenizer.batch_decode(new, skip_special_tokens=True)
        return watch.run(new.numel())


class Published:
    """(b) The published loop."""

    name = "published"

    def __init__(self, models: Models) -> None:
        self._models = models

    def run(self, job: Job, schedule: list[list[str]] | None) -> Run:
        """Do the job."""
        modules = self._models.modules
        loop = PublishedLoop(
            [modules[name] for name in NAMES],
            modules[SWITCHER],
            self._models.tokenizer,
            self._models.generate_options(job),
        )
        numbers = [_numbers(row) for row in schedule] if schedule else None
        torch.manual_seed(job.seed)
        with _Stopwatch() as watch:
            responses = loop.run(
                job.prompts,
                max_tokens=job.max_tokens,
                segment_tokens=job.segment_tokens,
                schedule=numbers,
            )
        run = watch.run(sum(response.num_tokens for response in responses))
        run.speakers = [[NAMES[i] for i in response.speakers] for response in responses]
        return run


class Ours:
    """(c) `SwitchLLM.invoke` for one prompt, `SwitchLLM.batch` for several."""

    name = "switch"

    def __init__(self, models: Models) -> None:
        self._models = models
        self._busy = BusyTime()
        self._llms: dict[Job, SwitchLLM] = {}

    @cached_property
    def engines(self) -> dict[str, TimedEngine]:
        """The engines by candidate name, the switcher's too."""
        return {
            name: TimedEngine(self._models.engine(name), self._busy)
            for name in self._models.modules
        }

    def run(self, job: Job, schedule: list[list[str]] | None = None) -> Run:  # noqa: ARG002
        """Do the job."""
        llm = self._llm(job)
        self._reset_clocks()
        traces = _Traces()
        with _Stopwatch() as watch:
            if len(job.prompts) == 1:
                llm.invoke(job.prompts[0], config={"callbacks": [traces]}, seed=job.seed)
            else:
                llm.batch(list(job.prompts), config={"callbacks": [traces]}, seed=job.seed)
        run = watch.run(sum(traces.num_tokens))
        run.speakers = traces.speakers
        self._read_clocks(run, job)
        return run

    def run_bare(self, job: Job) -> Run:
        """Do the job with the same switch, without LangGraph and LangChain."""
        switch = self._llm(job).switch
        self._reset_clocks()
        with _Stopwatch() as watch:
            queries = [{"query": prompt, "seed": job.seed} for prompt in job.prompts]
            traces = [trace_from_query(query, switch.config) for query in queries]
            turns = [Turn(trace=trace, row=f"{index}") for index, trace in enumerate(traces)]
            traces = finish_traces(switch, turns)
        run = watch.run(sum(trace.num_tokens for trace in traces))
        run.speakers = [[segment.speaker for segment in trace.segments] for trace in traces]
        self._read_clocks(run, job)
        return run

    def rates(self, job: Job) -> Rates:
        """Measure what this machine's engine takes for one model alone."""
        return measure_rates(
            self.engines["aligned"].engine,
            max_rows=len(job.prompts),
            max_context=job.max_tokens,
            sampling=make_config(job).sampling,
            masked=(self._models.tokenizer.eos_token_id,),
        )

    def _kv_bytes_foretold(self, job: Job, run: Run) -> int:
        """Return what all rows should take at the end of a job, as a plan would say."""
        module = self._models.modules[SWITCHER]
        per_token = kv_bytes_per_token(module.config.to_dict(), element_bytes=module.dtype.itemsize)
        rows = 0
        for index, prompt in enumerate(job.prompts):
            tokens = len(self._models.tokenizer.encode(f"{prompt}\n"))
            written = 0
            known: dict[str, int] = {}
            for number, speaker in enumerate(run.speakers[index]):
                written += min(job.segment_tokens, job.max_tokens - number * job.segment_tokens)
                known[speaker] = tokens + written - 1
            rows += sum(map(row_capacity, known.values()))
        switcher = sum(row_capacity(read) for read in run.switcher_tokens)
        return per_token * (rows + switcher)

    def _reset_clocks(self) -> None:
        self._busy.reset()
        for engine in self.engines.values():
            engine.reset()

    def _read_clocks(self, run: Run, job: Job) -> None:
        run.clocks = {name: engine.clock for name, engine in self.engines.items()}
        run.switcher_tokens = self.engines[SWITCHER].read_tokens
        run.kv_bytes_foretold = self._kv_bytes_foretold(job, run)
        clocks = run.clocks.values()
        run.busy_s = self._busy.wall_s - sum(clock.listening_s for clock in clocks)
        run.busy_cpu_s = self._busy.cpu_s - sum(clock.listening_cpu_s for clock in clocks)

    def _llm(self, job: Job) -> SwitchLLM:
        """Return the LLM of a job, used once: its graph is built before the clock starts."""
        key = replace(job, seed=0)
        if key not in self._llms:
            self._llms[key] = SwitchLLM(config=make_config(job), engines=self.engines)
            self._llms[key].invoke(job.prompts[0], max_tokens=1)
        return self._llms[key]


def _numbers(speakers: list[str]) -> list[int]:
    return [NAMES.index(name) for name in speakers]


def make_config(job: Job) -> SwitchConfig:
    """Return the switch that does what the published loop does."""
    sampling = {"temperature": 0, "top_p": 1} if job.greedy else {}
    return SwitchConfig.from_dict(
        {
            "candidates": [
                {"name": name, "model": name, "eos": "mask", "prompt": {"kind": "plain"}}
                for name in NAMES
            ],
            "switcher": {"kind": "lm", "model": SWITCHER},
            "segment": {"max_tokens": job.segment_tokens},
            "max_tokens": job.max_tokens,
            "limits": {"live_traces": max(64, len(job.prompts))},
            "sampling": {"temperature": TEMPERATURE, "top_p": TOP_P} | sampling,
        }
    )


class _Traces(BaseCallbackHandler):
    """Collects who wrote what of every finished response."""

    def __init__(self) -> None:
        self.speakers: list[list[str]] = []
        self.num_tokens: list[int] = []

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **_: Any) -> None:  # noqa: ARG002
        for (generation,) in response.generations:
            info = generation.generation_info or {}
            self.speakers.append([segment["speaker"] for segment in info["trace"]["segments"]])
            self.num_tokens.append(info["usage"]["output_tokens"])


class _Stopwatch:
    """Wall and processor seconds of a block."""

    def __enter__(self) -> Self:
        gc.collect()
        self._started = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        wall, cpu = self._started
        self.wall_s, self.cpu_s = time.perf_counter() - wall, time.process_time() - cpu

    def run(self, num_tokens: int) -> Run:
        """Return what the block took."""
        return Run(wall_s=self.wall_s, cpu_s=self.cpu_s, num_tokens=num_tokens)
