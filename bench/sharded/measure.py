"""Measure what a step of a sharded loss moves between 1, 2 and 4 processes, and how much memory it takes.

    python bench/sharded/measure.py     # three minutes on two cores
    python bench/sharded/measured.py    # the tables of docs/distributed.md, from the results in bench/results

In an environment with fastnce and torch 2.13. The processes of step.py meet through a file; each has one thread. A
process group counts what they receive. Memory is how far a step, forward and backward pass, raises the resident memory
of a process above what it was before it: above the table, the batch and the libraries. glibc is told to map arrays of
64 KiB and more on their own, so that none comes from memory that was freed before. The JSON file goes to
`build/sharded/`. To publish: commit first, so that it names a commit, measure, move it to `bench/results/`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "peers"))

from options import add_output, header
from report import save

SHAPES = {
    "many samples": {"classes": 400_000, "dim": 128, "batch": 2048, "labels": 1, "sampled": 32_768},
    "a table twice as large": {"classes": 800_000, "dim": 128, "batch": 2048, "labels": 1, "sampled": 32_768},
    "many true classes": {"classes": 400_000, "dim": 128, "batch": 2048, "labels": 16, "sampled": 8192},
    "many inputs": {"classes": 400_000, "dim": 128, "batch": 32_768, "labels": 1, "sampled": 1024},
}
SCHEMES = ("rows_to_data", "data_to_rows")
RANKS = (1, 2, 4)


def launched(size: int, request: dict[str, Any]) -> list[dict[str, Any]]:
    """What each of so many processes found."""
    script = str(Path(__file__).with_name("step.py"))
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(1 << 16), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        processes = [
            subprocess.Popen(
                [sys.executable, script, str(rank), str(size), f"{folder}/store", json.dumps(request)],
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
            )
            for rank in range(size)
        ]
        try:
            outputs = [process.communicate(timeout=300)[0] for process in processes]
        finally:
            for process in processes:
                process.kill()
                process.wait()
    if any(process.returncode for process in processes):
        raise SystemExit(f"{request} with P = {size} failed: see above")
    return [json.loads(output) for output in outputs]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_output(parser, "sharded")
    options = parser.parse_args()
    results, runs = header(), []
    for name, shape in SHAPES.items():
        for scheme in SCHEMES:
            for size in RANKS:
                print(f"{name}, {scheme}, P = {size}", flush=True)
                of_ranks = launched(size, {"scheme": scheme, "shape": shape})
                runs.append({"name": name, "shape": shape, "scheme": scheme, "ranks": of_ranks})
    print(f"written: {save('sharded', results | {'runs': runs}, options.output)}")


if __name__ == "__main__":
    main()
