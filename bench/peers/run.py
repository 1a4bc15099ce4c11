"""Time fastnce and its peers side by side on the named shapes: one worker process each, turn by turn.

    python bench/peers/run.py --shapes w2v,lm --rounds 15 --threads 2

Writes one JSON file with all medians to the output directory and prints `report.py`'s tables. The machine's limits are
measured before, between and after the shapes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from client import FASTNCE, MEMBERS, WorkerClient
from limits import Limits, measure_limits
from options import common_parser, conditions_of, header, names
from report import save, tables
from rounds import call_overhead, measure, start_workers
from shapes import SHAPES

PEERS = [name for name in MEMBERS if name != FASTNCE]
MEMORY_SHAPE = "lm"


def parse_options() -> argparse.Namespace:
    parser = common_parser(__doc__, rounds=15, seconds=45.0)
    parser.add_argument("--shapes", type=names(SHAPES), default=list(SHAPES), metavar="w2v,lm,...")
    parser.add_argument("--peers", type=names(PEERS), default=PEERS, metavar=",".join(PEERS))
    return parser.parse_args()


def try_limits(threads: int, runs: list[Limits], missing: dict[str, str]) -> None:
    """One more run of the limits, or why there is none."""
    try:
        runs.append(measure_limits(threads))
    except (OSError, subprocess.CalledProcessError) as error:
        missing["limits"] = str(error)


def main() -> None:
    options = parse_options()
    conditions = conditions_of(options)
    with ExitStack() as stack:
        workers, missing = start_workers([FASTNCE, *options.peers], conditions, stack)
        results: dict[str, Any] = {
            **header(),
            **conditions.facts(),
            "versions": {name: worker.versions for name, worker in workers.items()},
            "missing": missing,
            "overhead": call_overhead(workers[FASTNCE]),
            "limits": [],
            "shapes": {},
        }
        try_limits(options.threads, results["limits"], missing)
        for shape in options.shapes:
            print(f"{shape} ...", file=sys.stderr)
            results["shapes"][shape] = measure(workers, SHAPES[shape], options.rounds, options.seconds)
            try_limits(options.threads, results["limits"], missing)
    if MEMORY_SHAPE in options.shapes:
        with WorkerClient(FASTNCE, replace(conditions, allocator="system")) as fresh:
            results["memory"] = {"shape": MEMORY_SHAPE, **fresh.extra_memory(SHAPES[MEMORY_SHAPE])}
    print(f"written: {save('peers', results, options.output)}", file=sys.stderr)
    print(tables(results))


if __name__ == "__main__":
    main()
