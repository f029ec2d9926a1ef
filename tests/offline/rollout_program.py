"""A collection of rollouts that is killed at a chosen moment, or goes on; see test_rollout_resume.

python rollout_program.py FOLDER KILL_AFTER_COMPLETIONS
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from tiny_models import make_engine, random_model, switch_config

from langgraph_switch import Switch
from langgraph_switch.offline.collect import collect_rollouts, prepare_rollouts
from langgraph_switch.offline.rollout import RolloutJob
from langgraph_switch.offline.settings import RolloutSettings
from langgraph_switch.scoring import Answer, FunctionScore
from langgraph_switch.tasks import Example, Task
from langgraph_switch.trace import Message

SETTINGS = RolloutSettings(completions=4, chunk_queries=2, seed=5)


def share_of_low_letters(answer: Answer) -> float:
    """Return a score that differs between completions."""
    return sum(letter < "P" for letter in answer.response) / max(1, len(answer.response))


def make_task(num_questions: int = 5) -> Task:
    """Return questions without right answers."""
    questions = tuple(
        Example(id=f"q{i}", messages=(Message(role="user", content=f"question {i}?"),))
        for i in range(num_questions)
    )
    score = FunctionScore(share_of_low_letters, name="low letters")
    return Task(name="letters", score=score, splits={"train": questions}, source="here")


def make_switch(**fields: Any) -> Switch:
    """Return a sampling switch of three random models."""
    config = switch_config(
        sampling={"temperature": 1.0, "top_p": 0.95},
        max_tokens=24,
        segment={"max_tokens": 4},
        **fields,
    )
    engines = {name: make_engine(random_model(seed=i)) for i, name in enumerate("abc")}
    return Switch(config, engines=engines)


def make_job(folder: Path, settings: RolloutSettings = SETTINGS) -> RolloutJob:
    """Return the job."""
    switch = make_switch()
    return prepare_rollouts(
        switch.config, make_task(), out=folder, settings=settings, switch=switch
    )


def main() -> None:
    """Collect, and die after so many completions."""
    folder, kill_after = Path(sys.argv[1]), int(sys.argv[2])
    completed = 0

    def count(event: dict[str, Any]) -> None:
        nonlocal completed
        completed += event.get("completions", 0)
        if kill_after and completed >= kill_after:
            os.kill(os.getpid(), signal.SIGKILL)

    collect_rollouts(make_job(folder), on_event=count)


if __name__ == "__main__":
    main()
