"""Figures of single benchmarks, kept side by side in one file that `docs/generate.py` reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RECORDS = Path(__file__).resolve().parents[1] / "records.json"


def keep(name: str, figures: dict[str, Any]) -> None:
    """Put a benchmark's figures into the file, in the place of its earlier ones."""
    known = json.loads(RECORDS.read_text(encoding="utf-8")) if RECORDS.is_file() else {}
    known[name] = figures
    text = json.dumps(dict(sorted(known.items())), indent=2)
    RECORDS.write_text(text + "\n", encoding="utf-8")
