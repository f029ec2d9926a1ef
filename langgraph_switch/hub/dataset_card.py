"""The card of a repo of rollouts: columns, how the rows were made, how many.

Knows nothing of where the card is put.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import DatasetCard, DatasetCardData

from langgraph_switch.offline.rows import summarize_rows
from langgraph_switch.offline.shards import read_rows
from langgraph_switch.report.markdown import markdown_table

_COLUMNS = {
    "query_id, query": "the question",
    "prefix": "the trace at whose end the candidates were compared, as JSON",
    "scores": "per candidate the scores of its completions",
    "means, standard_errors": "per candidate",
    "label": "the candidate with the highest mean; -1 where a score failed",
    "margin, is_tie": "how far it is ahead of the next; whether it is",
    "soft_labels": "softmax of the means at the stored temperature",
    "completer, seed, config_hash, versions": "how the row was made",
}


def rollout_card(folder: Path, manifest: dict[str, Any], *, name: str) -> DatasetCard:
    """Return the card of a folder of rollouts; every figure is counted from its rows.

    Args:
        folder: Where the shards lie.
        manifest: What made them.
        name: What to call the dataset.
    """
    data = DatasetCardData(
        tags=["switch-generation", "langgraph-switch", "rollouts"],
        configs=[{"config_name": "default", "data_files": "shard-*.parquet"}],
    )
    found = summarize_rows(read_rows(folder), manifest["candidates"])
    settings, task = manifest["settings"], manifest["task"]
    facts = {
        "candidates": ", ".join(manifest["candidates"]),
        "task": f"{task.get('name')}, split {task.get('split')}",
        "completed by": settings["completer"],
        "completions per branch": str(settings["completions"]),
        "rows": f"{found['rows']}, {found['decided']} decided, {found['ties']} ties",
        "labels": ", ".join(f"{who} {number}" for who, number in found["labels"].items()),
        "config hash": manifest["config_hash"],
    }
    made = markdown_table(["", ""], [[key, value] for key, value in facts.items()])
    columns = markdown_table(["column", ""], [[f"`{k}`", v] for k, v in _COLUMNS.items()])
    body = _BODY.format(name=name, made=made, columns=columns)
    return DatasetCard(f"---\n{data.to_yaml()}\n---\n{body}")


_BODY = """\
# {name}

Rollouts of Switch Generation: at the end of a prefix every candidate writes one segment, each
branch is completed several times and scored. A switcher learns from them who should write next.

```
langgraph-switch train --rollouts hf://datasets/{name} --out runs/switcher
```

{made}

## Columns

{columns}
"""
