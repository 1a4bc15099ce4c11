"""Time fastnce and its peers side by side: one worker process each, turn by turn, compared round by round.

    python bench/peers/run.py --output results/ --shapes w2v,lm --rounds 15 --threads 2

Writes one JSON file with all medians to the output directory and prints `report.py`'s table.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from client import ALLOCATORS, FASTNCE, PEERS, WorkerClient, WorkerError
from machine import busy_seconds, commit, machine
from protocol import difference
from report import save, table
from shapes import ALL_SHAPES, MINIMAL, SHAPES

ROOT = Path(__file__).resolve().parents[2]
# A turn is one worker's share of a round: calls of about this many seconds in all, whose median counts.
TURN_SECONDS = 0.1
# Between turns: longer than the threads of OpenMP and of TensorFlow's pool spin before they sleep.
PAUSE_SECONDS = 0.02
MIN_ROUNDS = 3
# Largest relative difference from fastnce: of each loss, and of gradients against their largest element. A
# gradient is a sum of up to B terms, where the order of a float32 summation alone can make some 1e-5.
TOLERANCE = {"ids": 0.0, "loss": 1e-5, "dx": 1e-4, "dw": 1e-4, "db": 1e-4}
OVERHEAD_CALLS = 3_000
MEMORY_SHAPE = "lm"

Workers = dict[str, WorkerClient]


def names(known: dict[str, Any]) -> Any:
    """An argparse type: comma-separated members of `known`."""

    def parse(text: str) -> list[str]:
        chosen = [name for name in text.split(",") if name]
        if unknown := set(chosen) - known.keys():
            raise argparse.ArgumentTypeError(f"unknown: {sorted(unknown)}; known: {list(known)}")
        return chosen

    return parse


def start_workers(options: argparse.Namespace, stack: ExitStack) -> tuple[Workers, dict[str, str]]:
    """fastnce and every peer that can be had; and why each of the others cannot."""
    workers, missing = {}, {}
    for name in [FASTNCE, *options.peers]:
        try:
            worker = WorkerClient(name, options.venvs, options.threads, options.allocator)
            workers[name] = stack.enter_context(worker)
        except WorkerError as error:
            if name == FASTNCE:
                raise
            missing[name] = str(error).strip().splitlines()[-1]
            print(f"left out: {name}: {missing[name]}", file=sys.stderr)
    return workers, missing


def check_agreement(workers: Workers, shape: str) -> dict[str, dict[str, float]]:
    """Largest relative differences of each peer's results from fastnce's, for the same given candidates."""
    with tempfile.TemporaryDirectory() as folder:
        results = {}
        for name, worker in workers.items():
            path = f"{folder}/{name}.npz"
            if worker.ask("check", path=path):
                with np.load(path) as arrays:
                    results[name] = dict(arrays)
    ours = results.pop(FASTNCE)
    agreement = {
        name: {key: difference(theirs[key], ours[key], elementwise=key in ("loss", "ids")) for key in ours}
        for name, theirs in results.items()
    }
    for name, differences in agreement.items():
        # Written so that NaN counts as a disagreement.
        if not all(differences[key] <= limit for key, limit in TOLERANCE.items()):
            raise SystemExit(f"{shape}: {name} and fastnce disagree, relative differences {differences}")
    return agreement


def measure(workers: Workers, shape: str, rounds: int, seconds: float) -> dict[str, Any]:
    """Interleaved rounds; every other one in reverse, so that nobody always follows the same neighbour."""
    prepared = {name: worker.ask("prepare", shape=shape) for name, worker in workers.items()}
    agreement = check_agreement(workers, shape)
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
        "shape": asdict(ALL_SHAPES[shape]),
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
    worker.ask("prepare", shape=MINIMAL)
    seconds = worker.ask("time", calls=OVERHEAD_CALLS)
    return {"min_us": 1e6 * min(seconds), "median_us": 1e6 * statistics.median(seconds)}


def parse_options() -> argparse.Namespace:
    keep_lines = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=keep_lines)
    parser.add_argument(
        "--output",
        type=Path,
        default=ROOT / "build" / "peers",
        metavar="DIR",
        help="where the JSON file goes (default build/peers)",
    )
    parser.add_argument("--shapes", type=names(SHAPES), default=list(SHAPES), metavar="w2v,lm,...")
    parser.add_argument("--peers", type=names(PEERS), default=list(PEERS), metavar=",".join(PEERS))
    parser.add_argument("--rounds", type=int, default=15, help="at most this many (default 15)")
    parser.add_argument("--seconds", type=float, default=30.0, help="per shape (default 30)")
    parser.add_argument("--threads", type=int, default=2, help="of every worker (default 2)")
    parser.add_argument("--allocator", choices=ALLOCATORS, default="retain", help="(default retain)")
    parser.add_argument("--venvs", type=Path, default=ROOT / ".venv-peers", help="where setup.sh made them")
    return parser.parse_args()


def main() -> None:
    options = parse_options()
    with ExitStack() as stack:
        workers, missing = start_workers(options, stack)
        results: dict[str, Any] = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "threads": options.threads,
            "allocator": options.allocator,
            "fastnce_commit": commit(),
            "versions": {name: worker.versions for name, worker in workers.items()},
            "missing": missing,
            "overhead": call_overhead(workers[FASTNCE]),
            "shapes": {},
        }
        for shape in options.shapes:
            print(f"{shape} ...", file=sys.stderr)
            results["shapes"][shape] = measure(workers, shape, options.rounds, options.seconds)
    if MEMORY_SHAPE in options.shapes:
        with WorkerClient(FASTNCE, options.venvs, options.threads, "system") as fresh:
            results["memory"] = {"shape": MEMORY_SHAPE, **fresh.ask("memory", shape=MEMORY_SHAPE)}
    print(f"written: {save(results, options.output)}", file=sys.stderr)
    print(table(results))


if __name__ == "__main__":
    main()
