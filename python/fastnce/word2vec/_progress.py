"""What is shown of a run's progress on standard error: tqdm's bar where it is installed, else a line now and then.

What cannot be shown, as where a log fills the disk, is no reason to end a run.
"""

from __future__ import annotations

import contextlib
import sys
import time
from typing import Any


def show(line: str) -> None:
    """Print a line, if there is a standard error."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(line, file=sys.stderr, flush=True)


class Silent:
    """Shows nothing."""

    def update(self, count: int, note: str = "") -> None:
        """So many more are done."""

    def write(self, line: str) -> None:
        """A line of its own."""

    def close(self) -> None:
        """No more."""


class Bar(Silent):
    """tqdm's bar."""

    def __init__(self, tqdm: Any, label: str, total: int | None, done: int, unit: str) -> None:
        options: dict[str, Any] = {"unit": unit, "unit_scale": True, "mininterval": 0.3, "dynamic_ncols": True}
        self._bar = tqdm(desc=label, total=total, initial=done, file=sys.stderr, **options)

    def update(self, count: int, note: str = "") -> None:
        with contextlib.suppress(OSError):
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(count)

    def write(self, line: str) -> None:
        with contextlib.suppress(OSError):
            self._bar.write(line, file=sys.stderr)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._bar.close()


class Lines(Silent):
    """A line every five seconds."""

    _SECONDS = 5.0

    def __init__(self, label: str, total: int | None, done: int, unit: str) -> None:
        self._label, self._total, self._unit = label, total, unit
        self._first = self._done = done
        self._start = self._shown = time.monotonic()

    def update(self, count: int, note: str = "") -> None:
        self._done += count
        now = time.monotonic()
        if now - self._shown < self._SECONDS:
            return
        self._shown = now
        rate = (self._done - self._first) / (now - self._start)
        parts = [f"{self._done:,} {self._unit}", f"{rate:,.0f} {self._unit}/s", note]
        if self._total is not None:
            parts[0] += f" ({self._done / self._total:.0%})"
            parts.append(f"{(self._total - self._done) / rate:,.0f} s left" if rate > 0 else "")
        self.write(f"{self._label}: {', '.join(filter(None, parts))}")

    def write(self, line: str) -> None:
        show(line)


def progress(shown: bool, label: str, total: int | None, unit: str, done: int = 0) -> Silent:
    """A display for one phase of a run; the caller closes it."""
    if not shown or sys.stderr is None:
        return Silent()
    try:
        from tqdm import tqdm
    except ImportError:
        return Lines(label, total, done, unit)
    try:
        return Bar(tqdm, label, total, done, unit)
    except OSError:
        return Silent()
