"""Write the generated parts of README.md and docs/ from the files that hold their figures.

python docs/generate.py            write them
python docs/generate.py --check    exit 1 if they have drifted
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from langgraph_switch.report.markdown import markdown_table
from langgraph_switch.report.table import interval

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
LEARNING = ROOT / "docs" / "learning.md"
RESULTS = ROOT / "recipes" / "tiny_family" / "results"
SCORES = ROOT / "langgraph_switch" / "tiny" / "scores.json"
_LEFT_OUT = {"untuned switcher", "majority vote", "whole-response routing"}
"""Not in the README's table: next to the best single, or far below; the card has them."""
_LEARNED = {"trained switcher", "whole-response routing"}
"""Conditions that differ from seed to seed."""
SPEED = ROOT / "benchmarks" / "results.json"
RECORDS = ROOT / "benchmarks" / "records.json"
MEASURED = ROOT / "benchmarks" / "RESULTS.md"
_README_CASES = {("5.2 M", "1"), ("5.2 M", "8"), ("5.2 M", "32"), ("90.9 M", "1")}
"""By model and batch, at 512 tokens."""
SCALE = ROOT / "benchmarks" / "scale.json"
SCALE_DOC = ROOT / "docs" / "scale.md"
_SCALE_TABLES = ("cost", "network", "ray", "saturation", "replicas", "assumed")


def main() -> int:
    """Write or check every generated part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    is_check = parser.parse_args().check
    parts = {
        README: {"scores": scores_table, "speed": speed_table},
        MEASURED: {
            "switching": switching_table,
            "targets": targets_table,
            "records": records_table,
        },
        LEARNING: {
            "seeds": seeds_table,
            "ablation": ablation_table,
            "early stop": early_stop_table,
            "distillation": distillation_table,
            "switchers": switchers_table,
            "chain": chain_table,
        },
        SCALE_DOC: {name: partial(scale_table, name) for name in _SCALE_TABLES},
    }
    drifted = [path for path, tables in parts.items() if write_parts(path, tables, is_check)]
    for path in drifted if is_check else ():
        sys.stderr.write(f"{path.name} has drifted from its figures. Fix: make docs\n")
    return int(is_check and bool(drifted))


def write_parts(path: Path, tables: dict[str, Callable[[], str]], is_check: bool) -> bool:
    """Bring a file's generated parts up to date; return whether they were not."""
    old = path.read_text(encoding="utf-8")
    new = old
    for name, make in tables.items():
        new = replace_part(new, name, make())
    if new != old and not is_check:
        path.write_text(new, encoding="utf-8")
    return new != old


def replace_part(text: str, name: str, content: str) -> str:
    """Return a text with what stands between `generated: name` and `end` replaced."""
    pattern = re.compile(rf"(<!-- generated: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    return pattern.sub(lambda match: f"{match[1]}{content}\n{match[2]}", text)


def scores_table() -> str:
    """Return the embedded family's scores."""
    by_condition: dict[str, dict[str, Any]] = _read(SCORES)["scores"]
    kinds = list(next(iter(by_condition.values())))
    number = {kind: next(iter(by_condition.values()))[kind]["number"] for kind in kinds}
    rows = [["", *(f"{kind.replace('_', ' ')} (n = {number[kind]})" for kind in kinds)]]
    shown = {name: found for name, found in by_condition.items() if name not in _LEFT_OUT}
    for condition, by_kind in shown.items():
        name = f"**{condition}**" if condition == "trained switcher" else condition
        rows.append([name, *(_interval(by_kind[kind]) for kind in kinds)])
    return markdown_table(rows[0], rows[1:])


def seeds_table() -> str:
    """Return every training seed's scores on the test split of `tiny/compose`."""
    seeds = _read(RESULTS / "seeds.json")
    shown = ["trained switcher", seeds[0]["best_single"], "best single (oracle)"]
    shown += ["random switching", "whole-response routing", "majority vote"]
    types = list(seeds[0]["conditions"]["trained switcher"]["by_type"])
    number = seeds[0]["conditions"]["trained switcher"]["score"]["n"]
    head = ["condition", "seed", f"all (n = {number})", *(one.replace("_", " ") for one in types)]
    rows = [head]
    for name in shown:
        for entry in seeds if name in _LEARNED else seeds[:1]:
            one = entry["conditions"][name]
            cells = [interval(one["score"]), *(interval(one["by_type"][kind]) for kind in types)]
            seed = str(entry["seed"]) if name in _LEARNED else ""
            rows.append([f"**{name}**" if name == shown[0] else name, seed, *cells])
    for name in seeds[0]["leave_one_out"]:
        for entry in seeds:
            adds = entry["leave_one_out"][name]["adds"]
            rows.append(
                [f"lost without {name}", str(entry["seed"]), interval(adds), *[""] * len(types)]
            )
    return markdown_table(rows[0], rows[1:])


def ablation_table() -> str:
    """Return what decides how well a switcher learns."""
    found = _read(RESULTS / "ablation.json")
    cells = found["cells"]
    anchor = cells["anchor alone"]
    numbers = {kind: anchor[kind]["n"] for kind in anchor}
    head = ["segment", "completed by", "labels"]
    rows = [[*head, *(f"{kind.replace('_', ' ')} (n = {n})" for kind, n in numbers.items())]]
    for name, cell in cells.items():
        what = name.split(", ") if ", " in name else [name, "", ""]
        rows.append([*what, *(interval(cell[kind]) for kind in numbers)])
    return markdown_table(rows[0], rows[1:])


def early_stop_table() -> str:
    """Return how many completions early stopping saves, and what it costs."""
    rows = [["completed by", "rows", "decided", "completions saved", "same label"]]
    for name, one in _read(RESULTS / "ablation.json")["early_stop"].items():
        saved, same = 100 * one["saved_share"], 100 * one["label_agreement"]
        rows.append(
            [name, str(one["rows"]), str(one["decided"]), f"{saved:.0f} %", f"{same:.0f} %"]
        )
    return markdown_table(rows[0], rows[1:])


def distillation_table() -> str:
    """Return what one model keeps of the switch."""
    found = _read(RESULTS / "distillation.json")
    head = ["", f"score, % (n = {found['test']['questions']})", "seconds per answer"]
    rows = [
        [name, interval(one), f"{one['seconds_per_answer']:.4f}"]
        for name, one in found["scores"].items()
    ]
    kept = found["gain_recovered"]
    share, low, high = (f"{100 * kept[key]:.0f}" for key in ("share", "low", "high"))
    sentence = (
        f"The distilled model keeps {share} % [{low}, {high}] of the switch's gain at "
        f"{found['cost_ratio']:.2f} of its time."
    )
    return f"{markdown_table(head, rows)}\n\n{sentence}"


def chain_table() -> str:
    """Return how long the four steps take."""
    rows = [["step", "seconds", "not model time"]]
    found = _read(RESULTS / "chain.json")
    whole = {key: sum(one[key] for one in found.values()) for key in ("seconds", "model_seconds")}
    for name, one in {**found, "whole chain": whole}.items():
        rest = 100 * (1 - one["model_seconds"] / one["seconds"])
        rows.append([name, f"{one['seconds']:.0f}", f"{rest:.1f} %"])
    return markdown_table(rows[0], rows[1:])


def switchers_table() -> str:
    """Return accuracy, regret, score and time of every kind of switcher."""
    found = _read(RESULTS / "switchers.json")
    first = next(iter(found.values()))
    head = [
        "switcher",
        "parameters of its own",
        f"accuracy, % (n = {first['held_out']['n']})",
        "regret",
        f"score, % (n = {first['score']['n']})",
        "decision, ms",
        "answer / nobody asked",
    ]
    rows = []
    for name, one in found.items():
        held_out, regret = one["held_out"], one["held_out"]["regret"]
        rows.append(
            [
                name,
                f"{one['parameters']:,}",
                interval(held_out["accuracy"] | {"n": held_out["n"]}),
                f"{regret['mean']:.3f} [{regret['low']:.3f}, {regret['high']:.3f}]",
                interval(one["score"]),
                f"{one['decision_ms']:.1f}",
                f"{one['ratio']:.2f}",
            ]
        )
    return markdown_table(head, rows)


def speed_table() -> str:
    """Return the benchmark's table, its main cases, and the machine it was measured on."""
    head, *body = _read(SPEED)["table"]
    kept = [row for row in body if (row[0], row[1]) in _README_CASES and row[2] == "512"]
    return f"{markdown_table(head, kept)}\n\n{_read(SPEED)['notes']}"


def switching_table() -> str:
    """Return every case of the benchmark and where its time went."""
    found = _read(SPEED)
    head, *body = found["table"]
    phases = list(found["cases"][0]["phases_s"])
    rows = []
    for case in found["cases"]:
        total = sum(case["phases_s"].values())
        shares = [f"{100 * case['phases_s'][phase] / total:.0f} %" for phase in phases]
        memory = [
            f"{case['kv_bytes'] / 2**20:.0f} ({case['kv_bytes_foretold'] / 2**20:.0f})",
            f"{case['peak_memory_bytes'] / 2**20:.0f}",
        ]
        rows.append([case["size"], str(case["batch"]), str(case["max_tokens"]), *shares, *memory])
    where = ["model", "batch", "tokens", *phases, "KV, MiB (foretold)", "process, MiB"]
    return f"{markdown_table(head, body)}\n\n{markdown_table(where, rows)}\n\n{found['notes']}"


def targets_table() -> str:
    """Return what was promised and what was measured."""
    rows = [
        [
            one["what"],
            f"{one['value']:.2f}",
            f"{one['limit']:.2f}",
            "" if one["is_met"] else "missed",
        ]
        for one in _read(SPEED)["targets"]
    ]
    return markdown_table(["promise", "measured", "at most", ""], rows)


def records_table() -> str:
    """Return the single benchmarks' ratios."""
    rows = [
        [name.replace("_", " "), f"{one['ratio']:.2f}", f"{one['limit']:.2f}"]
        for name, one in _read(RECORDS).items()
    ]
    return markdown_table(["benchmark", "ratio", "at most"], rows)


def scale_table(name: str) -> str:
    """Return a table of `benchmarks/scale.py`."""
    return str(_read(SCALE)["markdown"][name])


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _interval(share: dict[str, float]) -> str:
    return f"{share['percent']:.1f} [{share['low']:.1f}, {share['high']:.1f}]"


if __name__ == "__main__":
    sys.exit(main())
