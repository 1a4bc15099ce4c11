"""Print the tables of docs/distributed.md on what was measured, from the newest sharded-*.json of a folder.

python bench/sharded/measured.py [--results bench/results]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "peers"))

import plan

from options import ROOT
from report import markdown, newest

Run = dict[str, Any]

TRAVELS = {"rows_to_data": "rows", "data_to_rows": "inputs"}
ROWS = ("weights of", "gradients of weights of", "inputs", "gradients of inputs")
BIASES = ("biases of", "gradients of biases of")
"""How the names of collectives begin that move rows of D numbers, and of those that move biases."""


def received(rank: Run, kind: tuple[str, ...], what: str) -> int:
    return sum(moved[what] for name, moved in rank["moved"].items() if name.startswith(kind))


def formula(run: Run, rank: Run) -> float:
    """Rows and gradients of rows, by plan.py."""
    shape, size = run["shape"], len(run["ranks"])
    if run["scheme"] == "rows_to_data":
        return sum(plan.rows_to_data(size, shape["sampled"], rank["remote"], rank["asked"]))
    return sum(plan.data_to_rows(size, shape["batch"]))


def letters(shape: dict[str, int]) -> str:
    return ", ".join(f"{value:,}" for value in shape.values())


def is_chosen(run: Run) -> bool:
    """Whether ``scheme="auto"`` goes this way: as in python/fastnce/torch/distributed/_schemes.py."""
    shape, distinct = run["shape"], max(rank["distinct"] for rank in run["ranks"])
    moves_rows = len(run["ranks"]) * shape["batch"] > shape["sampled"] + distinct
    return moves_rows == (run["scheme"] == "rows_to_data")


def most_bytes(run: Run) -> int:
    """Of rows and gradients of rows that a rank receives."""
    return max(received(rank, ROWS, "bytes") for rank in run["ranks"])


def traffic_row(run: Run) -> list[str]:
    """Of the rank that receives most."""
    dim = run["shape"]["dim"]
    rank = max(run["ranks"], key=lambda rank: received(rank, ROWS, "bytes"))
    total = received(rank, ("",), "bytes")
    rows, biases = received(rank, ROWS, "bytes"), received(rank, BIASES, "bytes")
    travels = TRAVELS[run["scheme"]] + (", as auto" if is_chosen(run) else "")
    cells = [run["name"], letters(run["shape"]), travels, str(len(run["ranks"]))]
    counts = [f"{formula(run, rank):,.0f}", f"{received(rank, ROWS, 'elements') / dim:,.0f}"]
    return [*cells, *counts, *map(plan.size, (rows, biases, total - rows - biases))]


def order(run: Run) -> int:
    """Bytes of (S + b T) D numbers, and of P b D where inputs travel."""
    shape = run["shape"]
    rows = shape["sampled"] + shape["batch"] * shape["labels"]
    if run["scheme"] == "data_to_rows":
        rows += len(run["ranks"]) * shape["batch"]
    return 4 * shape["dim"] * rows


def memory_cell(run: Run) -> str:
    made, step = (max(rank[key] for rank in run["ranks"]) for key in ("made_bytes", "step_bytes"))
    return f"{made / 2**20:.0f} + {step / 2**20:.0f} MiB ({step / order(run):.1f})"


def tables(results: dict[str, Any]) -> str:
    """What a rank receives; and how much memory it takes, a column for each number of ranks."""
    runs: list[Run] = results["runs"]
    counted = ["rows: formula", "rows: counted", "their bytes", "biases", "ids, sizes, losses"]
    head = ["", "V, D, b, T, S", "travels", "P", *counted]
    of_ranks: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        of_ranks.setdefault((run["name"], run["scheme"]), []).append(run)
    sizes = sorted({len(run["ranks"]) for run in runs})
    memory = [
        [name, letters(group[0]["shape"]), TRAVELS[scheme], *map(memory_cell, group)]
        for (name, scheme), group in of_ranks.items()
    ]
    return "\n".join(
        [
            *markdown(head, (traffic_row(run) for run in runs if len(run["ranks"]) > 1)),
            "",
            *markdown(["", *head[1:3], *(f"P = {size}" for size in sizes)], memory),
        ]
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / "bench" / "results", metavar="DIR")
    options = parser.parse_args()
    results = newest(options.results, "sharded")
    if results is None:
        raise SystemExit(f"--results {options.results}: expected a sharded-*.json")
    print(tables(results))


if __name__ == "__main__":
    main()
