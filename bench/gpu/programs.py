"""Programs that requirements.py asks: with time limits, and without ever raising."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Sequence
from typing import NamedTuple


class Answer(NamedTuple):
    ok: bool
    text: str
    """What it printed; without an answer, why there is none."""

    @property
    def reason(self) -> str:
        """The line that says most about a failure."""
        lines = [line.strip() for line in self.text.splitlines() if line.strip()]
        telling = [line for line in lines if re.search(r"error|fatal|unsupported|cannot", line, re.IGNORECASE)]
        return (telling[:1] or lines[-1:] or ["it says nothing"])[0][:160]


def ask(command: Sequence[str], seconds: float, given: str = "") -> Answer:
    """Runs a program in a group of its own, so that what it started ends with it."""
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        return Answer(False, error.strerror or str(error))
    try:
        text, _ = process.communicate(given, timeout=seconds)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):  # one that hangs in the driver cannot be ended
            process.wait(2)
        for pipe in (process.stdin, process.stdout):
            pipe.close()
        return Answer(False, f"no answer within {seconds:g} s")
    except OSError as error:
        return Answer(False, str(error))
    return Answer(process.returncode == 0, text)


def version_in(text: str, before: str = "") -> tuple[int, ...]:
    """The first version number, behind what ``before`` matches; empty if there is none."""
    found = re.search(before + r"(\d+(?:\.\d+)+)", text)
    return tuple(map(int, found[1].split("."))) if found else ()


def dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
