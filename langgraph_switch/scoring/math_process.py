"""The process that compares mathematical texts, started when needed, ended when it hangs.

Knows nothing of scores.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

from langgraph_switch.errors import SwitchError

_WORKER = Path(__file__).with_name("math_worker.py")


class MathProcess:
    """Asks the worker program from any thread, one question at a time, with a time limit."""

    def __init__(self, *, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._end: weakref.finalize[Any, Any] | None = None

    def is_equal(self, answer: str, reference: str) -> bool:
        """Return whether two texts are the same mathematics.

        Raises:
            SwitchError: The comparison failed or took too long.
        """
        with self._lock:
            reply = self._ask(json.dumps({"answer": answer, "reference": reference}))
        if "error" in reply:
            raise SwitchError(f"math-verify failed: {reply['error']}")
        return bool(reply["equal"])

    def close(self) -> None:
        """End the process; the next question starts another."""
        if self._end is not None:
            self._end()
        self._process = self._end = None

    def _ask(self, question: str) -> dict[str, Any]:
        process = self._started()
        assert process.stdin is not None  # noqa: S101 - tells the type checker
        assert process.stdout is not None  # noqa: S101
        watchdog = threading.Timer(self._timeout_s, process.kill)
        watchdog.start()
        try:
            process.stdin.write(question + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except OSError:
            line = ""
        finally:
            watchdog.cancel()
        if not line:
            self.close()
            raise SwitchError(f"math-verify gave no answer within {self._timeout_s:g} s.")
        reply: dict[str, Any] = json.loads(line)
        return reply

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            # -P: this folder is not searched for modules; one here is named like Python's own.
            self._process = subprocess.Popen(  # noqa: S603 - this package's own program
                [sys.executable, "-P", str(_WORKER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                encoding="utf-8",
            )
            self._end = weakref.finalize(self, _end, self._process)
        return self._process


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            try:
                stream.close()
            except OSError:  # What was not written any more.
                continue
