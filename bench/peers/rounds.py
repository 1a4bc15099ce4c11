"""The measurement itself: workers started, and timed turn by turn on one shape, compared round by round."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

from agreement import check_agreement
from client import FASTNCE, Conditions, WorkerClient, WorkerError
from machine import busy_seconds
from shapes import MINIMAL, Shape

# A turn is one worker's share of a round: calls of about this many seconds in all, whose median counts.
TURN_SECONDS = 0.1
# Between turns: longer than the threads of OpenMP and of TensorFlow's pool spin before they sleep.
PAUSE_SECONDS = 0.02
MIN_ROUNDS = 3
OVERHEAD_CALLS = 3_000

Workers = dict[str, WorkerClient]


def start_workers(names: Iterable[str], conditions: Conditions, stack: ExitStack) -> tuple[Workers, dict[str, str]]:
    """The members that can start, always including fastnce, and why each of the others cannot."""
    workers, missing = {}, {}
    for name in names:
        try:
            workers[name] = stack.enter_context(WorkerClient(name, conditions))
        except WorkerError as error:
            if name == FASTNCE:
                raise
            missing[name] = str(error).strip().splitlines()[-1]
            print(f"left out: {name}: {missing[name]}", file=sys.stderr)
    return workers, missing


def measure(workers: Workers, shape: Shape, rounds: int, seconds: float) -> dict[str, Any]:
    """Interleaved rounds; every other one in reverse, so that nobody always follows the same neighbour."""
    prepared = {name: worker.prepare(shape) for name, worker in workers.items()}
    agreement = check_agreement(workers)
    calls = {name: max(1, round(TURN_SECONDS / warm["seconds"])) for name, warm in prepared.items()}
    medians: dict[str, list[float]] = {name: [] for name in workers}
    order = list(workers)
    pids = [worker.pid for worker in workers.values()]
    busy, start = busy_seconds(pids), time.monotonic()
    for done in range(rounds):
        if done >= MIN_ROUNDS and time.monotonic() - start > seconds:
            break
        for name in order:
            time.sleep(PAUSE_SECONDS)
            medians[name].append(statistics.median(workers[name].ask("time", calls=calls[name])))
        order.reverse()
    processor_seconds = (time.monotonic() - start) * (os.cpu_count() or 1)
    ours = medians[FASTNCE]
    return {
        "shape": asdict(shape),
        "mean_loss": {name: warm["loss"] for name, warm in prepared.items()},
        "agreement": agreement,
        "calls_per_turn": calls,
        "other_load": max(0.0, busy_seconds(pids) - busy) / processor_seconds,
        "round_seconds": medians,
        "median_ms": {name: 1e3 * statistics.median(turns) for name, turns in medians.items()},
        "ratio": {
            name: statistics.median(theirs / own for theirs, own in zip(turns, ours, strict=True))
            for name, turns in medians.items()
        },
    }


def call_overhead(worker: WorkerClient) -> dict[str, float]:
    """Time per call where there is next to nothing to compute."""
    worker.prepare(MINIMAL)
    seconds = worker.ask("time", calls=OVERHEAD_CALLS)
    return {"min_us": 1e6 * min(seconds), "median_us": 1e6 * statistics.median(seconds)}
