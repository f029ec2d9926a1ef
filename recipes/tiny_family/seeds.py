"""Is it luck? The switcher learned again from other seeds, each measured on the test split.

python -m recipes.tiny_family.seeds

A seed draws the questions of the rollouts, every choice in them, and the order of training. The
checkpoints stay. Figures go to `results/seeds.json`. This module does not know how any step is
done.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from langgraph_switch.config import RandomSwitcherSpec, SwitchConfig
from langgraph_switch.families import embedded_config
from langgraph_switch.offline import EvaluationJob, evaluate_switch
from langgraph_switch.switch import Switch
from langgraph_switch.tasks import load_task
from recipes.tiny_family.learning import learn_switcher

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Learn and measure one switcher per seed."""
    parser = argparse.ArgumentParser(prog="python -m recipes.tiny_family.seeds")
    parser.add_argument("--work", type=Path, default=Path("runs/seeds"))
    parser.add_argument("--seed", type=int, action="append", help="repeatable; default: 1, 2, 3")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = [measured(seed, options.work / f"seed-{seed}") for seed in options.seed or (1, 2, 3)]
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(found, indent=2) + "\n"
    (RESULTS / "seeds.json").write_text(text, encoding="utf-8")


def measured(seed: int, work: Path) -> dict[str, Any]:
    """Return one seed's rounds and its scores on `tiny/compose`; what is there is not redone."""
    file = work / "result.json"
    if file.is_file():
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return found
    config = embedded_config().with_changes(switcher=RandomSwitcherSpec())
    learned = learn_switcher(config, load_task("tiny/mixed"), work / "rounds", seed=seed)
    switch = Switch(SwitchConfig.load(learned["folder"]))
    job = EvaluationJob(switch=switch, task=load_task("tiny/compose"), out=work / "report")
    analysis = evaluate_switch(job)["analysis"]
    kept = ("conditions", "differences", "leave_one_out", "solved_by_none", "best_single")
    result = {"seed": seed, "rounds": learned["rounds"]} | {key: analysis[key] for key in kept}
    file.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(seed, json.dumps(analysis["conditions"]["trained switcher"]["by_type"]), flush=True)
    return result


if __name__ == "__main__":
    main()
