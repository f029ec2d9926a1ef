"""Many questions from a JSONL file, answered in batches into another one, resumably."""

from langgraph_switch.jobs.answers import AnswerFile
from langgraph_switch.jobs.lines import Job, LineFailure, read_jobs
from langgraph_switch.jobs.runner import answer_jobs, run_events

__all__ = ["AnswerFile", "Job", "LineFailure", "answer_jobs", "read_jobs", "run_events"]
