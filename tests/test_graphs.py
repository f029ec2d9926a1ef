from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
GRAPHS = json.loads((ROOT / "langgraph.json").read_text(encoding="utf-8"))["graphs"]
STEPS = {
    "switch": "decide",
    "chat": "answer",
    "rollout": "complete",
    "train": "measure",
    "evaluate": "respond",
    "distill": "measure",
}


def test_every_part_of_the_product_is_a_graph() -> None:
    assert set(GRAPHS) == set(STEPS)


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_can_be_opened_and_drawn_without_data(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file, _, function = GRAPHS[name].partition(":")
    spec = importlib.util.spec_from_file_location(f"opened_{name}", ROOT / file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    graph = getattr(module, function)()
    assert STEPS[name] in graph.get_graph().draw_mermaid()
    assert list(tmp_path.iterdir()) == []
