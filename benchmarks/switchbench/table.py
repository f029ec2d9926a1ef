"""Results as tables for people, as Markdown for the README, and against their targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from switchbench.contestants import Ours, Plain, Published
from switchbench.timing import CaseResult

LIMIT_TO_GENERATE = {("5M", 1): 1.0, ("90M", 1): 1.25, ("5M", 8): 1.4, ("5M", 32): 1.2}
"""By size and batch."""
LIMIT_TO_PUBLISHED = {(512, 1): 0.4, (512, 8): 0.5, (2048, 1): 0.25}
"""By tokens of a response and batch."""
LIMIT_TO_PREDICTED = 1.15
LIMIT_KV_ERROR = 1.05
LIMIT_OVERHEAD_MS = 2.0
LIMIT_IMPORT_S = 0.3
TITLES = {Plain.name: "one model's generate()", Published.name: "published loop", Ours.name: "ours"}


@dataclass(frozen=True, slots=True)
class Target:
    """A figure and what it may be at most."""

    what: str
    value: float
    limit: float

    @property
    def is_met(self) -> bool:
        """Whether the figure keeps to its limit."""
        return self.value <= self.limit


def targets(results: Sequence[CaseResult], imports: dict[str, float]) -> list[Target]:
    """Return every promise that these results allow to check."""
    found: list[Target] = []
    for result in results:
        case = result.case
        where = f"{case.size}, batch {case.batch}, {case.max_tokens} tokens: "
        if (limit := LIMIT_TO_GENERATE.get((case.size, case.batch))) is not None:
            ratio = result.paired_ratio(Ours.name, Plain.name)
            found.append(Target(f"{where}ours / generate()", ratio, limit))
        limit = LIMIT_TO_PUBLISHED.get((case.max_tokens, case.batch))
        if limit is not None and result.has_published:
            ratio = result.paired_ratio(Ours.name, Published.name)
            found.append(Target(f"{where}ours / published", ratio, limit))
        ratio = result.ratio_to_predicted()
        found.append(Target(f"{where}ours / predicted", ratio, LIMIT_TO_PREDICTED))
        foretold = result.kv_bytes / result.kv_bytes_foretold
        found.append(Target(f"{where}KV bytes / foretold", foretold, LIMIT_KV_ERROR))
        if (added_ms := result.overhead_ms_per_segment()) is not None:
            what = f"{where}LangGraph and LangChain, ms per segment"
            found.append(Target(what, added_ms, LIMIT_OVERHEAD_MS))
    seconds = imports["langgraph_switch"]
    found.append(Target("import beyond langchain-core's, s", seconds, LIMIT_IMPORT_S))
    return found


def show(
    console: Console,
    results: Sequence[CaseResult],
    imports: dict[str, float],
    machine: dict[str, Any],
) -> None:
    """Print everything."""
    console.print(describe(machine), soft_wrap=True)
    console.print(_speed_table(results))
    console.print(_phase_table(results))
    added = ", ".join(f"{n} +{s:.3f} s" for n, s in imports.items() if n != "langchain-core")
    console.print(f"Import: langchain-core {imports['langchain-core']:.3f} s; beyond it: {added}")
    table = Table("promise", "measured", "at most", "", title="Targets")
    for target in targets(results, imports):
        mark = "[green]met[/]" if target.is_met else "[red]missed[/]"
        table.add_row(target.what, f"{target.value:.2f}", f"{target.limit:.2f}", mark)
    console.print(table)


def describe(machine: dict[str, Any]) -> str:
    """Return one line about the machine and the versions."""
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    pinned = " (pinned)" if machine["pinned_to_cpus"] else ""
    return (
        f"{machine['cpu']}, {machine['num_cpus']} CPUs; {machine['threads']} thread(s){pinned}; "
        f"{'greedy' if machine['greedy'] else 'temperature 0.7, top-p 0.9'}; "
        f"segments of {machine['segment_tokens']}; "
        f"Python {machine['python']}, {versions} at commit {machine['commit']}"
    )


def rows(results: Sequence[CaseResult]) -> list[list[str]]:
    """Return the table of the README, its head first."""
    head = [
        "model",
        "batch",
        "tokens",
        "`generate()`, tokens/s",
        "published loop",
        "ours",
        "time, ours / `generate()`",
        "/ published loop",
        "/ cost model",
    ]
    return [head, *(_row(result) for result in results)]


def notes(results: Sequence[CaseResult], machine: dict[str, Any]) -> str:
    """Return what stands below the table."""
    known = [(r.case.size, r.overhead_ms_per_segment()) for r in results]
    overhead = " and ".join(f"{ms:.1f} ms ({size})" for size, ms in known if ms is not None)
    added = f"LangGraph and LangChain add {overhead} per segment at batch 1. " if overhead else ""
    return f"{added}Machine: {describe(machine)}."


def markdown(results: Sequence[CaseResult], machine: dict[str, Any]) -> str:
    """Return table and notes as Markdown."""
    head, *body = rows(results)
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + (
        f"\n\n{notes(results, machine)}"
    )


def _row(result: CaseResult) -> list[str]:
    names = (Plain.name, Published.name, Ours.name)
    is_there = {name: name in result.runs for name in names}
    speeds = [f"{result.tokens_per_second(n):.0f}" if is_there[n] else "" for n in names]
    ratios = [
        f"{result.paired_ratio(Ours.name, base):.2f}" if is_there[base] else ""
        for base in names[:2]
    ]
    return [
        f"{result.num_parameters / 1e6:.1f} M",
        str(result.case.batch),
        str(result.case.max_tokens),
        *speeds,
        *ratios,
        f"{result.ratio_to_predicted():.2f}",
    ]


def _speed_table(results: Sequence[CaseResult]) -> Table:
    table = Table(title="Medians of paired runs (in brackets: processor time)")
    columns = ("model", "batch", "tokens", "", "pairs", "s", "tokens/s", "/ generate()")
    for column in (*columns, "/ published", "/ predicted"):
        table.add_column(column, justify="left" if column in {"model", ""} else "right")
    for result in results:
        for name in (Plain.name, Published.name, Ours.name):
            if name not in result.runs:
                continue
            table.add_row(
                result.case.size,
                str(result.case.batch),
                str(result.case.max_tokens),
                TITLES[name],
                str(len(result.runs[name])),
                f"{result.median(name):.2f} ({result.median(name, 'cpu_s'):.2f})",
                f"{result.tokens_per_second(name):.0f}",
                _ratio(result, name, Plain.name),
                _ratio(result, name, Published.name),
                f"{result.ratio_to_predicted():.2f}" if name == Ours.name else "",
            )
        table.add_section()
    return table


def _ratio(result: CaseResult, name: str, base: str) -> str:
    if name == base or base not in result.runs:
        return ""
    wall, cpu = (result.paired_ratio(name, base, what) for what in ("wall_s", "cpu_s"))
    return f"{wall:.2f} ({cpu:.2f})"


def _phase_table(results: Sequence[CaseResult]) -> Table:
    phases = list(results[0].phases())
    table = Table(
        "model",
        "batch",
        *phases,
        "outside, ms/segment",
        "LangGraph + LangChain",
        "KV MiB (foretold)",
        "peak memory MiB",
        title="Ours by phase",
    )
    for result in results:
        seconds = result.phases()
        total = sum(seconds.values())
        table.add_row(
            result.case.size,
            str(result.case.batch),
            *(f"{one:.2f} s  {100 * one / total:.0f} %" for one in seconds.values()),
            _pair(result.outside_ms_per_segment(), result.outside_ms_per_segment(cpu=True)),
            _pair(result.overhead_ms_per_segment(), result.overhead_ms_per_segment(cpu=True)),
            f"{result.kv_bytes / 2**20:.0f} ({result.kv_bytes_foretold / 2**20:.0f})",
            f"{result.peak_memory_bytes / 2**20:.0f}",
        )
    return table


def _pair(wall: float | None, cpu: float | None) -> str:
    return "" if wall is None else f"{wall:.2f} ({cpu:.2f})"
