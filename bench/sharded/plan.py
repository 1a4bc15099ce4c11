"""Predict what a step of a sharded loss moves, holds and takes, for sizes beyond this machine.

    python bench/sharded/plan.py                                   # the table of docs/distributed.md
    python bench/sharded/plan.py --classes 1e9 --dim 64 --batch 8192 --sampled 65536 --ranks 64

Rows and bytes follow from what the schemes send (the tests hold them to what a process group counts). Seconds are
predictions: bytes over the speed of a link, as its maker publishes it, plus floating-point operations over a rate that
you assume; what of the two overlaps is not counted. Labels are Zipfian: log-uniform over the classes.
"""

from __future__ import annotations

import argparse
import math
from typing import NamedTuple

import numpy as np

LINKS = {"25 Gb/s": 3.125e9, "100 Gb/s": 12.5e9, "400 Gb/s": 50e9}
"""Bytes per second of each rank in each direction: Ethernet, InfiniBand EDR, InfiniBand NDR."""
SHAPES = {
    "language model head": {"classes": 1e6, "dim": 1024, "batch": 2048, "sampled": 8192},
    "recommender": {"classes": 1e8, "dim": 128, "batch": 65536, "sampled": 4096},
    "a billion items": {"classes": 1e9, "dim": 64, "batch": 8192, "sampled": 65536},
}
RANKS = (8, 64, 512)


class Traffic(NamedTuple):
    """What one rank receives in a step, and sends: of rows of the table or of inputs, and of their gradients."""

    rows: float
    gradients: float


def rows_to_data(ranks: int, sampled: float, remote: float, asked: float) -> Traffic:
    """Rows of S samples, held evenly, and of this rank's ``remote`` true classes of others; back come gradients of its
    own samples, and of the ``asked`` rows that others have as true classes."""
    samples = sampled * (ranks - 1) / ranks
    return Traffic(samples + remote, samples + asked)


def data_to_rows(ranks: int, batch: float) -> Traffic:
    """Inputs of all other ranks; back come shares of the gradients of b own ones."""
    return Traffic((ranks - 1) * batch, (ranks - 1) * batch)


def distinct_labels(classes: float, batch: float) -> float:
    """How many different classes b log-uniform labels are expected to be: sum over k of 1 - (1 - p_k)^b."""
    edges = np.unique(np.round(np.logspace(0, math.log10(classes), 4000))) - 1  # classes between two have one p
    middle = (edges[:-1] + edges[1:] - 1) / 2
    p = np.log1p(1 / (middle + 1)) / math.log1p(classes)
    return float(((edges[1:] - edges[:-1]) * -np.expm1(batch * np.log1p(-p))).sum())


class Plan(NamedTuple):
    """Of one rank, in bytes and seconds."""

    scheme: str
    moved: float
    table: float
    """The rows, and as much again in float32 for Adagrad's sums."""
    held: float
    """For the step: what has arrived, and its gradients."""
    computing: float


def plan(classes: float, dim: int, batch: float, sampled: float, ranks: int, element: int, flops: float) -> Plan:
    """The scheme that moves fewer rows, and what it takes."""
    distinct = distinct_labels(classes, batch)
    remote = distinct * (ranks - 1) / ranks
    rows, inputs = rows_to_data(ranks, sampled, remote, remote), data_to_rows(ranks, batch)
    moves_rows = ranks * batch > sampled + distinct
    traffic = rows if moves_rows else inputs
    arrived = sampled + distinct if moves_rows else ranks * batch
    return Plan(
        "rows" if moves_rows else "inputs",
        dim * (element * traffic.rows + 4 * traffic.gradients),
        classes * dim * (element + 4) / ranks,
        dim * (element + 4) * arrived,
        6 * dim * batch * sampled / flops,  # three products of 2 b S D
    )


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} TiB"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=float)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--batch", type=float, default=8192, help="examples of each rank")
    parser.add_argument("--sampled", type=float, default=8192, help="samples of all ranks")
    parser.add_argument("--ranks", type=int, nargs="+", default=RANKS)
    parser.add_argument("--element-bytes", type=int, default=4, help="of tables and inputs")
    parser.add_argument("--flops", type=float, default=1e12, help="operations per second of a rank, assumed")
    options = parser.parse_args()
    own = {name: getattr(options, name) for name in ("classes", "dim", "batch", "sampled")}
    links = list(LINKS)
    print("| | V, D, b, S | P | travels | received | table, Adagrad | for the step | computing |", end="")
    print("".join(f" {link} |" for link in links))
    print("|---|---|--:|---|--:|--:|--:|--:|" + "--:|" * len(links))
    for name, shape in ({"yours": own} if options.classes else SHAPES).items():
        for ranks in options.ranks:
            of = plan(**shape, ranks=ranks, element=options.element_bytes, flops=options.flops)
            letters = ", ".join(f"{value:,.0f}" for value in shape.values())
            cells = [name, letters, str(ranks), of.scheme, *map(size, (of.moved, of.table, of.held))]
            times = [of.computing, *(of.moved / LINKS[link] for link in links)]
            print(f"| {' | '.join(cells)} | {' | '.join(f'{1e3 * seconds:.3g} ms' for seconds in times)} |")


if __name__ == "__main__":
    main()
