"""A long-lived process that hosts one adapter: `python worker.py THREADS ADAPTER [VARIANT]` (see protocol.py)."""

from __future__ import annotations

import gc
import importlib
import itertools
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np

from memory import extra_peak_bytes
from protocol import Adapter
from shapes import BATCHES, MINIMAL, NCE, Case, Shape

# Calls until a shape counts as warm: graph optimisation, allocator pools and thread start-up are over then.
WARM_CALLS = 3


class Worker:
    """Carries out the requests; the names of its public methods are the names of the commands."""

    def __init__(self, adapter: Adapter) -> None:
        self._adapter = adapter
        self._batches = itertools.cycle(range(BATCHES))
        self._case: Case | None = None

    def _step_seconds(self) -> float:
        batch = next(self._batches)
        start = time.perf_counter()
        # The result is dropped inside the timed window: handing memory back is part of everybody's cost.
        self._adapter.step(batch)
        return time.perf_counter() - start

    def prepare(self, shape: dict[str, Any], loss: str = NCE) -> dict[str, float | None]:
        self._case = Case(Shape(**shape), loss)
        self._adapter.prepare(self._case)
        seconds = min(self._step_seconds() for _ in range(WARM_CALLS))
        outputs = self._adapter.outputs(self._adapter.step(0))
        mean = None if outputs is None else float(outputs.loss.mean(dtype=np.float64))
        return {"seconds": seconds, "loss": mean}

    def check(self, path: str) -> bool:
        assert self._case is not None, "prepare comes first"
        outputs = self._adapter.outputs(self._adapter.step(0, self._case.candidates()))
        if outputs is not None:
            np.savez(path, **outputs._asdict())
        return outputs is not None

    def time(self, calls: int) -> list[float]:
        # Untimed: meanwhile other workers have emptied the caches and this one's threads have gone to sleep.
        self._step_seconds()
        gc.disable()
        try:
            return [self._step_seconds() for _ in range(calls)]
        finally:
            gc.enable()

    def memory(self, shape: dict[str, Any], loss: str = NCE) -> dict[str, Any]:
        # Threads, lazy imports and the like belong to the process, not to the call.
        self.prepare(asdict(MINIMAL), loss)
        self._adapter.prepare(Case(Shape(**shape), loss))

        def output_bytes(result: Any) -> int:
            outputs = self._adapter.outputs(result)
            return 0 if outputs is None else sum(array.nbytes for array in outputs)

        return extra_peak_bytes(lambda: self._adapter.step(0), output_bytes)


def answer(worker: Worker, request: dict[str, Any]) -> dict[str, Any]:
    """The result of one request, or the traceback it ended in."""
    command = request.pop("command")
    try:
        return {"result": getattr(worker, command)(**request)}
    except Exception:
        return {"error": traceback.format_exc()}


def serve(start: Callable[[], tuple[Worker, dict[str, Any]]]) -> None:
    """Greet with versions, then answer requests until the input ends."""
    # Libraries print to standard output now and then: keep that out of the channel by pointing it at stderr.
    with os.fdopen(os.dup(1), "w", buffering=1) as channel:
        os.dup2(2, 1)
        try:
            worker, versions = start()
        except Exception:
            print(json.dumps({"error": traceback.format_exc()}), file=channel)
            return
        facts = {"python": sys.version.split()[0], "numpy": np.__version__, **versions}
        print(json.dumps({"result": facts}, default=str), file=channel)
        for line in sys.stdin:
            print(json.dumps(answer(worker, json.loads(line))), file=channel)


def hosted(threads: str, name: str, *variant: str) -> tuple[Worker, dict[str, Any]]:
    adapter: Adapter = importlib.import_module(f"adapters.{name}").Peer(int(threads), *variant)
    return Worker(adapter), adapter.versions()


if __name__ == "__main__":
    serve(lambda: hosted(*sys.argv[1:]))
