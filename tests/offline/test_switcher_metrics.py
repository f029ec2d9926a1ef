from __future__ import annotations

import json
from typing import Any

import pytest
from rollout_rows import NAMES, learnable_rows, row
from tiny_models import make_engine, random_model

from langgraph_switch.config import Sampling
from langgraph_switch.offline.switcher_metrics import best_candidates, predict, switcher_metrics
from langgraph_switch.offline.training_rows import prefix_trace
from langgraph_switch.switchers.base import Turn
from langgraph_switch.switchers.lm import LMSwitcher

ROWS = [
    row("a", "a", [[1.0], [0.0], [0.5]]),
    row("a", "a", [[1.0], [0.0], [0.5]]),
    row("b", "b", [[0.0], [1.0], [0.5]]),
    row("c", "c", [[0.0], [0.2], [0.8]]),
]
RIGHT = [(0.8, 0.1, 0.1), (0.8, 0.1, 0.1), (0.1, 0.8, 0.1), (0.1, 0.1, 0.8)]


def measured(predictions: Any, rows: Any = ROWS) -> dict[str, Any]:
    return switcher_metrics(rows, predictions, names=NAMES, anchor="aligned", majority="pretrained")


def test_a_switcher_that_is_always_right_loses_nothing() -> None:
    found = measured(RIGHT)
    assert (found["n"], found["queries"]) == (4, 3)
    assert found["accuracy"]["mean"] == 1
    assert found["regret"]["mean"] == 0
    assert found["calibration_error"] == pytest.approx(0.2)
    assert found["brier"] == pytest.approx(0.2**2 + 2 * 0.1**2)
    assert json.loads(json.dumps(found)) == found


def test_a_wrong_choice_costs_what_its_utility_lacks() -> None:
    found = measured([*RIGHT[:3], (0.1, 0.8, 0.1)])
    assert found["accuracy"]["mean"] == pytest.approx(0.75)
    assert found["regret"]["mean"] == pytest.approx(0.6 / 4)
    assert found["calibration_error"] == pytest.approx(abs(0.75 - 0.8))
    interval = found["accuracy"]
    assert interval["low"] <= interval["mean"] <= interval["high"]


def test_choices_that_read_nothing_are_measured_alike() -> None:
    baselines = measured(RIGHT)["baselines"]
    assert baselines["anchor"]["candidate"] == "aligned"
    assert baselines["anchor"]["accuracy"]["mean"] == pytest.approx(1 / 4)
    assert baselines["anchor"]["regret"]["mean"] == pytest.approx(1.5 / 4)
    assert baselines["majority"]["accuracy"]["mean"] == pytest.approx(2 / 4)
    assert baselines["random"]["accuracy"]["mean"] == pytest.approx(1 / 3)
    assert baselines["random"]["regret"]["mean"] == pytest.approx((3 * 0.5 + 0.8 - 1 / 3) / 4)


def test_any_of_the_best_is_right_in_a_tie() -> None:
    tie = row("t", "t", [[1.0], [1.0], [0.0]])
    assert best_candidates(tie) == [True, True, False]
    assert measured([(0.1, 0.8, 0.1)], [tie])["accuracy"]["mean"] == 1
    assert measured([(0.5, 0.5, 0.0)], [tie])["brier"] == pytest.approx(0)
    assert measured([(0.5, 0.5, 0.0)], [tie])["baselines"]["random"]["accuracy"][
        "mean"
    ] == pytest.approx(2 / 3)


def test_without_rows_nothing_is_claimed() -> None:
    found = measured([], [])
    assert found["n"] == 0
    assert found["accuracy"] is None
    assert found["brier"] is None


def test_predictions_are_the_served_probabilities_and_leave_no_memory_behind() -> None:
    engine = make_engine(random_model())
    switcher = LMSwitcher(engine, NAMES, sampling=Sampling(temperature=1), segment_tokens=6)
    rows = learnable_rows(40)
    found = predict(switcher, rows)
    assert len(found) == 40
    assert engine.num_rows == 0
    alone = switcher.probabilities([Turn(prefix_trace(rows[35]), "alone")])[0]
    assert found[35] == pytest.approx(alone, abs=1e-5)
