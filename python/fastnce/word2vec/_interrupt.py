"""Ctrl-C during training: the current piece is finished, so that what is saved is a state of the run."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class TrainingInterrupted(KeyboardInterrupt):
    """SIGINT (Ctrl-C) or SIGTERM ended the training between two pieces of text."""

    def __init__(self, message: str, signum: int = signal.SIGINT) -> None:  # a pickled one is made with the message
        super().__init__(message)
        self.signum = signum


class Requests:
    """Which signal has come, if any."""

    signum: int | None = None

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is not None:  # again: at once
            raise KeyboardInterrupt
        self.signum = signum


@contextlib.contextmanager
def noticed() -> Iterator[Requests]:
    """Notice SIGINT and SIGTERM instead of being ended by them.

    Only on the main thread, and only where the program has no handler of its own: elsewhere signals do what they did.
    """
    requests = Requests()
    before = {}
    if threading.current_thread() is threading.main_thread():
        for signum, default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
            if signal.getsignal(signum) is default:
                before[signum] = signal.signal(signum, requests._note)
    try:
        yield requests
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
