"""Two builds side by side: their results compared to the bit, their times in paired rounds."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from checkout import Build
from client import Conditions, Process
from intervals import differences_us, ratios
from machine import busy_seconds
from rounds import PAUSE_SECONDS
from shapes import MINIMAL, SHAPES, Shape

HERE = Path(__file__).resolve().parent
MATRIX_THREADS = (1, 2)
# A turn is one build's share of a round.
TURN_SECONDS = 0.25
# Processes differ by a percent where their memory happens to lie: rounds are spread over so many of each build.
STARTS = 3
SMALLEST = "smallest call"
TIMED = {**SHAPES, SMALLEST: MINIMAL}
# Of how many differences in one run of the matrix the size is computed, too.
SIZED = 10

Pair = dict[str, Process]
"""By "old" and "new"."""


@contextmanager
def workers(builds: Mapping[str, Build], threads: int, isa: str | None = None) -> Iterator[Pair]:
    """A worker of each build, on one instruction set: the best one for None."""
    environment = Conditions(HERE, threads, "retain", isa).environment()
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(
                Process(name, [str(build.python), str(HERE / "commit_worker.py"), str(threads)], environment)
            )
            for name, build in builds.items()
        }


def differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Keys whose values differ, with both values; a missing one is None."""
    for key in dict.fromkeys([*old, *new]):
        if old.get(key) != new.get(key):
            yield key, old.get(key), new.get(key)


def compare_results(builds: Mapping[str, Build]) -> dict[str, Any]:
    """How many results and error texts were compared, and every difference in words."""
    differences: list[str] = []
    with workers(builds, max(MATRIX_THREADS)) as pair:
        facts = {name: worker.versions for name, worker in pair.items()}
        errors = {name: worker.ask("errors") for name, worker in pair.items()}
    for key in ("isa_available", "numpy", "python", "compiler"):
        if facts["old"].get(key) != facts["new"].get(key):
            differences.append(f"{key}: {facts['old'].get(key)} was, {facts['new'].get(key)} is")
    for call, was, now in differing(errors["old"], errors["new"]):
        differences.append(f"error of {call}: {was!r} was, {now!r} is")
    compared = 0
    for isa in (isa for isa in facts["old"]["isa_available"] if isa in facts["new"]["isa_available"]):
        print(f"results on {isa} ...", file=sys.stderr)
        with workers(builds, max(MATRIX_THREADS), isa) as pair:
            for threads in MATRIX_THREADS:
                digests = {name: worker.ask("digests", threads=threads) for name, worker in pair.items()}
                compared += sum(map(len, digests["new"].values()))
                for index, (case, was, now) in enumerate(differing(digests["old"], digests["new"])):
                    arrays = [array for array, _, _ in differing(was or {}, now or {})]
                    size = f": {largest_difference(pair, case, threads)}" if was and now and index < SIZED else ""
                    differences.append(f"{isa}, {threads} threads, {case}: {', '.join(arrays)}{size}")
    return {"versions": facts, "arrays": compared, "errors": len(errors["new"]), "differences": differences}


def largest_difference(pair: Pair, case: str, threads: int) -> str:
    """Of the arrays of a case that both have: relative to the largest element of each."""
    with tempfile.TemporaryDirectory() as folder:
        saved = {}
        for name, worker in pair.items():
            path = f"{folder}/{name}.npz"
            worker.ask("save", case=case, threads=threads, path=path)
            with np.load(path) as arrays:
                saved[name] = dict(arrays)
    largest = 0.0
    for key, was in saved["old"].items():
        now = saved["new"].get(key)
        if now is None or now.shape != was.shape:
            return f"{key} has another shape"
        scale = max(float(np.abs(was).max(initial=0.0)), np.finfo(np.float64).tiny)
        largest = max(largest, float(np.abs(now - was).max(initial=0.0)) / scale)
    return f"up to {largest:.1e} of the largest element"


def measure(pair: Pair, shape: Shape, rounds: int) -> tuple[dict[str, list[float]], float]:
    """Seconds per call in each round, a median each; which build is first alternates. And the share of the machine that
    others took meanwhile."""
    warm = [worker.ask("prepare", shape=asdict(shape))["seconds"] for worker in pair.values()]
    calls = max(1, round(TURN_SECONDS / max(warm)))
    seconds: dict[str, list[float]] = {name: [] for name in pair}
    order = list(pair)
    pids = [worker.pid for worker in pair.values()]
    busy, start = busy_seconds(pids), time.monotonic()
    for _ in range(rounds):
        for name in order:
            time.sleep(PAUSE_SECONDS)
            seconds[name].append(pair[name].ask("turn", calls=calls))
        order.reverse()
    processor_seconds = (time.monotonic() - start) * (os.cpu_count() or 1)
    return seconds, max(0.0, busy_seconds(pids) - busy) / processor_seconds


def shares(rounds: int) -> list[int]:
    """Rounds of each start of the processes."""
    return [rounds * (start + 1) // STARTS - rounds * start // STARTS for start in range(STARTS)]


def compare_times(builds: Mapping[str, Build], names: list[str], rounds: int, threads: int) -> dict[str, Any]:
    """Every shape asked for: seconds of all rounds, and the intervals that follow."""
    seconds: dict[str, dict[str, list[float]]] = {name: {"old": [], "new": []} for name in names}
    load = dict.fromkeys(names, 0.0)
    for start, share in enumerate(shares(rounds) if names else ()):
        with workers(builds, threads) as pair:
            # Who comes first alternates between starts, too: the first to build its tables gets the better memory.
            ordered = dict(sorted(pair.items(), reverse=start % 2 == 0))
            for name in names:
                print(f"time of {name}, start {start + 1} of {STARTS} ...", file=sys.stderr)
                measured, others = measure(ordered, TIMED[name], share)
                load[name] = max(load[name], others)
                for which, values in measured.items():
                    seconds[name][which] += values
    return {
        name: {
            "shape": asdict(TIMED[name]),
            "round_seconds": of_shape,
            "ratio": ratios(of_shape["old"], of_shape["new"])._asdict(),
            "difference_us": differences_us(of_shape["old"], of_shape["new"])._asdict(),
            "other_load": load[name],
        }
        for name, of_shape in seconds.items()
    }
