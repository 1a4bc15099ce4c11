"""The worker of one commit: `python commit_worker.py THREADS`, by the interpreter that has the commit installed.

Beside the commands of bench/peers/protocol.py:

    turn calls=N             the median of N timed calls of the prepared shape
    digests threads=N        digests of all results of matrix.py, by case and array
    save case=NAME threads=N path=FILE       the arrays of one case (.npz)
    errors                   texts of errors, by name
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).parents[1] / "peers"))
import fastnce
from adapters.fastnce import Peer
from bad_calls import error_texts
from matrix import cases, digest
from worker import Worker, serve


class CommitWorker(Worker):
    def turn(self, calls: int) -> float:
        return statistics.median(self.time(calls))

    def digests(self, threads: int) -> dict[str, dict[str, str]]:
        fastnce.set_num_threads(threads)
        return {name: {key: digest(array) for key, array in compute().items()} for name, compute in cases()}

    def save(self, case: str, threads: int, path: str) -> None:
        fastnce.set_num_threads(threads)
        arrays = dict(cases())[case]()
        # NumPy's files know nothing of bfloat16; float64 holds every number of the others but of int64.
        np.savez(path, **{k: v if v.dtype.kind in "iu" else v.astype(np.float64) for k, v in arrays.items()})

    def errors(self) -> dict[str, str]:
        return error_texts()


def start(threads: int) -> tuple[CommitWorker, dict[str, Any]]:
    adapter = Peer(threads, "highest")
    return CommitWorker(adapter), adapter.versions()


if __name__ == "__main__":
    serve(lambda: start(int(sys.argv[1])))
