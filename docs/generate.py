"""Write the generated parts of README.md from the files that hold their figures.

python docs/generate.py            write them
python docs/generate.py --check    exit 1 if they have drifted
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
SCORES = ROOT / "langgraph_switch" / "tiny" / "scores.json"
SPEED = ROOT / "benchmarks" / "results.json"


def main() -> int:
    """Write or check every generated part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    is_check = parser.parse_args().check
    old = README.read_text(encoding="utf-8")
    new = old
    for name, table in (("scores", scores_table()), ("speed", speed_table())):
        new = replace_part(new, name, table)
    if new == old:
        return 0
    if is_check:
        sys.stderr.write("README.md has drifted from its figures. Fix: make docs\n")
        return 1
    README.write_text(new, encoding="utf-8")
    return 0


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
    for condition, by_kind in by_condition.items():
        name = f"**{condition}**" if condition == "trained switcher" else condition
        rows.append([name, *(_interval(by_kind[kind]) for kind in kinds)])
    return _markdown(rows)


def speed_table() -> str:
    """Return the benchmark's table and the machine it was measured on."""
    return str(_read(SPEED)["markdown"])


def _read(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return data


def _interval(share: dict[str, float]) -> str:
    return f"{share['percent']:.1f} [{share['low']:.1f}, {share['high']:.1f}]"


def _markdown(rows: list[list[str]]) -> str:
    head, *body = rows
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
