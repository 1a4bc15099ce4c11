"""How time grows with S, B, D and V, and memory with S: one letter at a time, around one base shape.

    python bench/peers/sweep.py --sweeps S,B --rounds 7

Writes one JSON file. Each point starts its workers anew, so that none holds the tables of the one before, and is then
measured as the named shapes are.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict, replace
from typing import Any, NamedTuple

from client import FASTNCE, Conditions
from options import common_parser, conditions_of, header, names
from report import save
from rounds import measure, start_workers
from shapes import Shape

BASE = Shape(V=100_000, D=128, B=1_024, T=1, S=1_024)
# Narrower, so that a table of 1e8 rows of bfloat16 is 12 GiB.
NARROW = replace(BASE, D=64)
EVERYBODY = (FASTNCE, "fastnce_medium", "tensorflow", "pytorch", "jax")


class Point(NamedTuple):
    """A shape, and who takes part in it."""

    shape: Shape
    names: tuple[str, ...] = EVERYBODY


def vary(letter: str, values: Iterable[int]) -> list[Point]:
    return [Point(replace(BASE, **{letter: value})) for value in values]


# V: fastnce alone where two tables might not fit into memory, or where only it takes the table.
SWEEPS = {
    "S": vary("S", (64, 256, 1_024, 4_096, 16_384)),
    "B": vary("B", (128, 512, 2_048, 8_192, 16_384)),
    "D": vary("D", (32, 64, 128, 256, 512, 1_024)),
    "V": [
        *(Point(replace(NARROW, V=V), (FASTNCE, "pytorch")) for V in (10_000, 100_000, 1_000_000, 10_000_000)),
        Point(replace(NARROW, V=30_000_000), (FASTNCE,)),
        Point(replace(NARROW, V=10_000_000, table="memmap"), (FASTNCE,)),
        *(Point(replace(NARROW, V=V, table="bfloat16"), (FASTNCE,)) for V in (100_000, 10_000_000, 100_000_000)),
    ],
}
MEMORY = "memory"
MEMORY_NAMES = (FASTNCE, "tensorflow", "pytorch")


def extra_memory(shape: Shape, conditions: Conditions) -> dict[str, Any]:
    """Extra peak memory of one call, of each in a fresh process."""
    extra = {}
    for name in MEMORY_NAMES:
        with ExitStack() as stack:
            workers, _ = start_workers([name], conditions, stack)
            if name in workers:
                extra[name] = workers[name].extra_memory(shape)
    return extra


def main() -> None:
    parser = common_parser(__doc__, rounds=7, seconds=10.0)
    every = [*SWEEPS, MEMORY]
    parser.add_argument("--sweeps", type=names(every), default=every, metavar=",".join(every))
    options = parser.parse_args()
    conditions = conditions_of(options)
    results: dict[str, Any] = {
        **header(),
        **conditions.facts(),
        "versions": {},
        "missing": {},
        "sweeps": {},
        MEMORY: [],
    }
    for letter, points in SWEEPS.items():
        if letter not in options.sweeps:
            continue
        results["sweeps"][letter] = []
        for point in points:
            print(point.shape, file=sys.stderr)
            with ExitStack() as stack:
                workers, missing = start_workers(point.names, conditions, stack)
                results["missing"] |= missing
                results["versions"] |= {name: worker.versions for name, worker in workers.items()}
                results["sweeps"][letter].append(measure(workers, point.shape, options.rounds, options.seconds))
    if MEMORY in options.sweeps:
        # What users get: memory that is kept for the next call would not show.
        system = replace(conditions, allocator="system")
        for point in SWEEPS["S"]:
            print(f"memory of {point.shape}", file=sys.stderr)
            results[MEMORY].append({"shape": asdict(point.shape), "extra": extra_memory(point.shape, system)})
    print(f"written: {save('sweep', results, options.output)}", file=sys.stderr)


if __name__ == "__main__":
    main()
