"""The terminal: answers on stdout, everything else on stderr; errors, warnings, exit codes.

Knows nothing of traces.
"""

from __future__ import annotations

import errno
import logging
import os
import traceback
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.text import Text

from langgraph_switch.cli.options import ScreenOptions
from langgraph_switch.errors import (
    ConfigError,
    InputError,
    MissingExtraError,
    ModelLoadError,
    SwitchError,
)

_NO_ROOM = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130

_BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f")


class Screen:
    """Two consoles: `out` for answers, `err` for everything about them."""

    def __init__(self, options: ScreenOptions, *, is_show: bool = False) -> None:
        """Open the terminal.

        Args:
            options: How things are shown.
            is_show: Everything is for people: put all of it on stdout.
        """
        no_color = options.no_color or None
        self.out = Console(no_color=no_color, highlight=False)
        self.err = Console(
            no_color=no_color, highlight=False, stderr=not is_show, quiet=options.quiet
        )
        self._alarm = Console(no_color=no_color, highlight=False, stderr=True)
        self._shows_tracebacks = options.debug

    @property
    def is_terminal(self) -> bool:
        """Whether people watch the answer being written."""
        return self.out.is_terminal

    def note(self, text: str) -> None:
        """Say something about the run."""
        self.err.print(Text(visible(text), style="dim"), soft_wrap=True)

    def warn(self, text: str) -> None:
        """Say that something may not be as expected."""
        self._say("Warning: ", text, "yellow")

    def fail(self, error: Exception, *, where: str = "") -> None:
        """Show an error, and how to mend it."""
        known = isinstance(error, SwitchError)
        text = str(error) if known else f"{type(error).__name__}: {error}"
        if self._shows_tracebacks:
            self._alarm.print(Text(visible("".join(traceback.format_exception(error)))))
        self._say(f"{where}: " if where else "Error: ", text, "red")

    def _say(self, lead: str, text: str, color: str) -> None:
        body, _, hint = text.partition("\n  Fix: ")
        line = Text.assemble((lead, f"bold {color}"), (visible(body), color))
        if hint:
            line.append(f"\n  Fix: {visible(hint)}")
        self._alarm.print(line, soft_wrap=True)


@contextmanager
def reporting(screen: Screen) -> Iterator[None]:
    """Turn what goes wrong into messages and exit codes; keep libraries' chatter off the screen.

    Exit codes: 1 an engine failed, 2 a question or the configuration is at fault, 130 Ctrl-C.
    """
    with quiet_libraries(screen):
        try:
            yield
        except KeyboardInterrupt:
            screen.note("Interrupted.")
            raise typer.Exit(EXIT_INTERRUPTED) from None
        except SwitchError as err:
            screen.fail(err)
            user_can_act = (ConfigError, InputError, MissingExtraError, ModelLoadError)
            code = EXIT_USAGE if isinstance(err, user_can_act) else EXIT_FAILED
            raise typer.Exit(code) from None
        except OSError as err:
            if err.errno not in _NO_ROOM:
                raise
            screen.fail(InputError(f"Cannot write any more: {err.strerror}.", hint="make room"))
            raise typer.Exit(EXIT_FAILED) from None


@contextmanager
def quiet_libraries(screen: Screen) -> Iterator[None]:
    """Show this package's warnings; hide those and the progress bars of the libraries below."""
    from langgraph_switch.prompts.candidate import SwitchWarning  # noqa: PLC0415 - only here

    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for name in ("huggingface_hub", "transformers", "peft"):
        logging.getLogger(name).setLevel(logging.ERROR)

    def show(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
        if issubclass(category, SwitchWarning):
            screen.warn(str(message))

    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.showwarning = show
        yield


def visible(text: str) -> str:
    """Return text without what a terminal would obey: escape codes, bells, reversed writing."""
    return "".join(
        character
        for character in text
        if character in "\n\t"
        or (unicodedata.category(character) != "Cc" and character not in _BIDI_CONTROLS)
    )
