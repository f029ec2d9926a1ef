"""`langgraph-switch run --input`: a file of questions, with progress, resumable.

Knows nothing of how a batch is answered.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import typer
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from langgraph_switch.cli.options import JobOptions
from langgraph_switch.cli.run import load, write_json
from langgraph_switch.cli.screen import EXIT_FAILED, EXIT_INTERRUPTED, Screen
from langgraph_switch.config import SwitchConfig
from langgraph_switch.errors import GenerationError, InputError
from langgraph_switch.jobs.answers import AnswerFile, record_of
from langgraph_switch.jobs.lines import Job, LineFailure, read_jobs
from langgraph_switch.jobs.runner import answer_jobs


def answer_file(
    options: JobOptions, config: SwitchConfig, screen: Screen, *, trusted: Collection[str] = ()
) -> None:
    """Answer the questions of a file.

    Raises:
        InputError: Questions cannot be read or answers cannot be written.
        ConfigError: Another configuration made the answers that are there.
        typer.Exit: A line failed (1), or Ctrl-C was pressed (130).
    """
    if options.input is None:
        raise InputError("--output needs --input.", hint="name a file of questions")
    if options.output is not None and _are_same(options.input, options.output):
        raise InputError("--input and --output name the same file.", hint="name another --output")
    jobs, failures = read_jobs(options.input, config)
    if options.output is None:
        _show_failures(failures, screen)
        num_failed = _answer(jobs, config, screen, None, trusted)
    else:
        with AnswerFile(options.output, config, overwrite=options.overwrite) as answers:
            pending = answers.pending(jobs)
            _show_failures(failures, screen)
            if answers.done:
                screen.note(
                    f"{len(answers.done)} of {len(jobs)} lines are answered already; "
                    f"{len(pending)} to go."
                )
            try:
                num_failed = _answer(pending, config, screen, answers, trusted)
            except KeyboardInterrupt:
                screen.warn(
                    f"Interrupted: {len(answers.done)} of {len(jobs)} answers are in "
                    f"{str(options.output)!r}.\n  Fix: run the same command again to continue"
                )
                raise typer.Exit(EXIT_INTERRUPTED) from None
    num_failed += len(failures)
    if num_failed:
        lines = "line has" if num_failed == 1 else "lines have"
        screen.fail(GenerationError(f"{num_failed} {lines} no answer.", traces=()))
        raise typer.Exit(EXIT_FAILED)


def _answer(
    jobs: list[Job],
    config: SwitchConfig,
    screen: Screen,
    answers: AnswerFile | None,
    trusted: Collection[str],
) -> int:
    """Answer jobs, and return how many have none."""
    if not jobs:
        screen.note("Nothing to do.")
        return 0
    num_failed = num_answered = 0
    llm = load(config, screen, trusted=trusted)
    progress = _progress(screen)
    try:
        shows_progress = screen.err.is_terminal and not (answers is None and screen.is_terminal)
        with progress if shows_progress else nullcontext():
            task = progress.add_task("", total=len(jobs), tokens=0)
            for job, result in answer_jobs(llm, jobs, _token_counter(progress, task)):
                if isinstance(result, LineFailure):
                    num_failed += 1
                    _show_failures([result], screen)
                else:
                    num_answered += 1
                    _write(job, result, answers, screen)
                progress.advance(task)
    finally:
        elapsed = progress.tasks[0].elapsed if progress.tasks else None
        if num_answered and elapsed:
            screen.note(f"{num_answered} answers, {num_answered / elapsed:.1f} per second.")
    return num_failed


def _write(job: Job, answer: dict[str, Any], answers: AnswerFile | None, screen: Screen) -> None:
    if answers is None:
        write_json(record_of(job, answer), screen)
    else:
        answers.append(job, answer)


def _show_failures(failures: Sequence[LineFailure], screen: Screen) -> None:
    for failure in failures:
        screen.fail(failure.error, where=f"Line {failure.line}")


def _are_same(first: Path, second: Path) -> bool:
    return first.exists() and second.exists() and first.samefile(second)


class _RateColumn(ProgressColumn):
    """Answers and tokens per second."""

    def render(self, task: Task) -> Text:
        if not task.elapsed:
            return Text("")
        rate, tokens = task.completed / task.elapsed, task.fields["tokens"] / task.elapsed
        return Text(f"{rate:.1f} answers/s  {tokens:.0f} tokens/s")


def _progress(screen: Screen) -> Progress:
    return Progress(
        TextColumn("Answering"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeRemainingColumn(),
        console=screen.err,
        redirect_stdout=False,  # Answers may go there.
    )


def _token_counter(progress: Progress, task: TaskID) -> Callable[[int], None]:
    def count(num_tokens: int) -> None:
        tokens = progress.tasks[0].fields["tokens"] + num_tokens
        progress.update(task, tokens=tokens)

    return count
