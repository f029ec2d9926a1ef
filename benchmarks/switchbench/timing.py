"""Paired runs: the contestants take turns, so that a slow moment of the machine hits all alike.

Knows nothing of how a contestant works.
"""

from __future__ import annotations

import os
import platform
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import langgraph_switch
from switchbench.contestants import (
    WARM_UP_SEGMENT_TOKENS,
    Contestant,
    Job,
    Models,
    Ours,
    Plain,
    Published,
    Run,
)
from switchbench.cost_model import Rates

PACKAGES = ("torch", "transformers", "langchain-core", "langgraph")
IMPORTS = {
    "langchain-core": "from langchain_core.language_models.llms import BaseLLM",
    "langgraph_switch": "import langgraph_switch",
    "SwitchLLM": "from langgraph_switch import SwitchLLM",
}
"""What is imported, each behind langchain-core."""


@dataclass(frozen=True, slots=True)
class Case:
    """One size and batch, and how often it is run."""

    size: str
    batch: int
    pairs: int
    published_pairs: int
    """Pairs in which the published loop takes part: it is slow, and far from its limit."""
    max_tokens: int = 512


@dataclass(slots=True)
class CaseResult:
    """The runs of a case, by contestant, in order."""

    case: Case
    num_parameters: int
    num_segments: int
    runs: dict[str, list[Run]] = field(default_factory=dict)
    bare_runs: list[Run] = field(default_factory=list)
    """Runs of the switch without LangGraph and LangChain; at batch 1 only."""
    rates: list[Rates] = field(default_factory=list)
    """The machine's rates, measured again for every pair."""
    peak_memory_bytes: int = 0
    """Of the process so far, weights of all contestants included."""

    def median(self, name: str, what: str = "wall_s") -> float:
        """Return the median seconds of a contestant."""
        return float(statistics.median(getattr(run, what) for run in self.runs[name]))

    def paired_ratio(self, name: str, base: str, what: str = "wall_s") -> float:
        """Return the median of the pairs' ratios."""
        pairs = zip(self.runs[name], self.runs[base], strict=False)  # Not every pair has a (b).
        ratios = [getattr(a, what) / getattr(b, what) for a, b in pairs]
        return float(statistics.median(ratios))

    def tokens_per_second(self, name: str) -> float:
        """Return a contestant's median speed, all rows together."""
        return statistics.median(run.num_tokens / run.wall_s for run in self.runs[name])

    def predicted_s(self) -> list[float]:
        """Return what the cost model says of every run of ours."""
        return [
            rates.predict(call for clock in run.clocks.values() for call in clock.calls)
            for rates, run in zip(self.rates, self.runs[Ours.name], strict=True)
        ]

    def ratio_to_predicted(self) -> float:
        """Return the median of measured to predicted seconds."""
        pairs = zip(self.runs[Ours.name], self.predicted_s(), strict=True)
        return float(statistics.median(run.wall_s / predicted for run, predicted in pairs))

    @property
    def has_published(self) -> bool:
        """Whether the published loop took part."""
        return Published.name in self.runs

    def phases(self) -> dict[str, float]:
        """Return the switch's median seconds by phase."""
        found = [_phases(run) for run in self.runs[Ours.name]]
        return {phase: statistics.median(one[phase] for one in found) for phase in found[0]}

    def outside_ms_per_segment(self, *, bare: bool = False, cpu: bool = False) -> float:
        """Return the time outside of the engines, with LangGraph and LangChain or without.

        Args:
            bare: Of the runs without them.
            cpu: Processor time, which other jobs of the machine touch less.
        """
        runs = self.bare_runs if bare else self.runs[Ours.name]
        seconds = [r.cpu_s - r.busy_cpu_s if cpu else r.wall_s - r.busy_s for r in runs]
        return statistics.median(seconds) * 1e3 / self.num_segments

    def overhead_ms_per_segment(self, *, cpu: bool = False) -> float | None:
        """Return what LangGraph and LangChain add to the same switch without them."""
        if not self.bare_runs:
            return None
        with_them = self.outside_ms_per_segment(cpu=cpu)
        return with_them - self.outside_ms_per_segment(bare=True, cpu=cpu)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types, figures and single runs."""
        names = [name for name in self.runs if name != Plain.name]
        return {
            **asdict(self.case),
            "num_parameters": self.num_parameters,
            "num_segments": self.num_segments,
            "median_wall_s": {name: self.median(name) for name in self.runs},
            "median_cpu_s": {name: self.median(name, "cpu_s") for name in self.runs},
            "tokens_per_second": {name: self.tokens_per_second(name) for name in self.runs},
            "paired_ratio_to_generate": {n: self.paired_ratio(n, Plain.name) for n in names},
            "paired_cpu_ratio_to_generate": {
                name: self.paired_ratio(name, Plain.name, "cpu_s") for name in names
            },
            "ratio_of_medians_to_generate": {
                name: self.median(name) / self.median(Plain.name) for name in names
            },
            "paired_ratio_to_published": self.paired_ratio(Ours.name, Published.name)
            if self.has_published
            else None,
            "predicted_s": self.predicted_s(),
            "ratio_to_predicted": self.ratio_to_predicted(),
            "phases_s": self.phases(),
            "outside_engines_ms_per_segment": self.outside_ms_per_segment(),
            "langgraph_langchain_ms_per_segment": self.overhead_ms_per_segment(),
            "langgraph_langchain_cpu_ms_per_segment": self.overhead_ms_per_segment(cpu=True),
            "kv_bytes": self.kv_bytes,
            "kv_bytes_foretold": self.kv_bytes_foretold,
            "peak_memory_bytes": self.peak_memory_bytes,
            "runs": {name: [_figures(run) for run in runs] for name, runs in self.runs.items()},
            "bare_runs": [_figures(run) for run in self.bare_runs],
        }

    @property
    def kv_bytes(self) -> int:
        """Bytes of keys and values that the run furthest above its forecast held at its peak."""
        return self._furthest_above_forecast.kv_bytes

    @property
    def kv_bytes_foretold(self) -> int:
        """What the same run should have held, by who spoke in it."""
        return self._furthest_above_forecast.kv_bytes_foretold

    @property
    def _furthest_above_forecast(self) -> Run:
        return max(self.runs[Ours.name], key=lambda run: run.kv_bytes / run.kv_bytes_foretold)


def measure(models: Models, case: Case, job: Job, tell: Callable[[str], None]) -> CaseResult:
    """Run a case's pairs after a warm-up."""
    plain, published, ours = Plain(models), Published(models), Ours(models)
    contestants: list[Contestant] = [plain, ours, *([published] if case.published_pairs else [])]
    warm_up = replace(
        job, segment_tokens=WARM_UP_SEGMENT_TOKENS, max_tokens=3 * WARM_UP_SEGMENT_TOKENS
    )
    for contestant in contestants:
        contestant.run(warm_up, None)
    result = CaseResult(case, models.num_parameters, job.num_segments)
    for pair in range(case.pairs):
        # The switch runs before the published loop, which follows its speakers.
        order: list[Contestant] = [plain, ours] if pair % 2 == 0 else [ours, plain]
        if pair < case.published_pairs:
            order.append(published)
        result.rates.append(ours.rates(job))
        schedule: list[list[str]] | None = None
        paired_job = replace(job, seed=job.seed + pair)
        for contestant in order:
            run = contestant.run(paired_job, schedule)
            _expect_all_tokens(run, job, contestant.name)
            if contestant is ours:
                schedule = run.speakers
            result.runs.setdefault(contestant.name, []).append(run)
            where = f"{case.size}, batch {case.batch}, pair {pair + 1}/{case.pairs}"
            tell(f"{where}: {contestant.name} {run.wall_s:.1f} s")
        if case.batch == 1 and pair < case.published_pairs:
            bare = ours.run_bare(paired_job)
            if bare.speakers != schedule:
                raise RuntimeError("without LangGraph the switch took other turns")
            result.bare_runs.append(bare)
    result.peak_memory_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return result


def import_seconds(repeats: int) -> dict[str, float]:
    """Return median seconds of langchain-core's import, and of what ours add to it."""
    taken: dict[str, list[float]] = {name: [] for name in IMPORTS}
    for _ in range(repeats):
        for name, statement in IMPORTS.items():
            taken[name].append(_import_seconds([IMPORTS["langchain-core"], statement]))
    core = taken.pop("langchain-core")
    beyond = {
        name: statistics.median(s - c for s, c in zip(seconds, core, strict=True))
        for name, seconds in taken.items()
    }
    return {"langchain-core": statistics.median(core)} | beyond


def set_threads(num_threads: int, *, pin: bool) -> dict[str, Any]:
    """Give torch its threads, and the process as many processors; return what it runs on."""
    pinned: list[int] = []
    if pin and hasattr(os, "sched_setaffinity"):
        pinned = sorted(os.sched_getaffinity(0))[-num_threads:]
        os.sched_setaffinity(0, pinned)
    torch.set_num_threads(num_threads)
    return {
        "cpu": _cpu_name(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "num_cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "pinned_to_cpus": pinned,
        "commit": _commit(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in (*PACKAGES, "langgraph-switch")},
    }


def _figures(run: Run) -> dict[str, Any]:
    """Return a run without its single calls, of which there are hundreds."""
    found = asdict(run)
    for clock in found["clocks"].values():
        del clock["calls"]
    return found


def _phases(run: Run) -> dict[str, float]:
    clocks = list(run.clocks.values())
    catch_up = sum(clock.catch_up_s for clock in clocks)
    decode = sum(clock.decode_s for clock in clocks)
    decide = sum(clock.decide_s for clock in clocks)
    return {
        "decide": decide,
        "catch up": catch_up,
        "decode": decode,
        # Engines of one device take turns; where they do not, this is too little.
        "sample, detokenise, copy": max(0.0, run.busy_s - decide - catch_up - decode),
        "outside the engines": run.wall_s - run.busy_s,
    }


def _expect_all_tokens(run: Run, job: Job, name: str) -> None:
    expected = len(job.prompts) * job.max_tokens
    if run.num_tokens != expected:
        raise RuntimeError(f"{name} wrote {run.num_tokens} tokens instead of {expected}")


def _import_seconds(statements: Sequence[str]) -> float:
    lines = ["import time", "started = time.perf_counter()", *statements]
    lines.append("print(time.perf_counter() - started)")
    done = subprocess.run(  # noqa: S603 - our own interpreter and code
        [sys.executable, "-c", "\n".join(lines)], check=True, capture_output=True, text=True
    )
    return float(done.stdout)


def _commit() -> str:
    """Return the commit of the measured package, `-dirty` if it was changed since."""
    folder = Path(langgraph_switch.__file__).parent
    git = ["git", "describe", "--always", "--dirty", "--abbrev=10", "--match="]
    try:
        done = subprocess.run(  # noqa: S603 - a fixed command
            git, cwd=folder, check=True, capture_output=True, text=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
