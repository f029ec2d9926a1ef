"""Tasks: questions with right answers in splits, and the score that judges answers to them.

Importing this package loads neither torch nor a data set library.
"""

from __future__ import annotations

from langgraph_switch.tasks.load import load_task, register_task, task_names
from langgraph_switch.tasks.rows import FieldMap
from langgraph_switch.tasks.task import Example, Task

__all__ = ["Example", "FieldMap", "Task", "load_task", "register_task", "task_names"]
