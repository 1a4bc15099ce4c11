"""What every process of a process group checks, one after the other.

    python tests/sharded_processes.py RANK SIZE STORE RESULTS

The processes meet through the file STORE, whose folder is for checkpoints; rank 0 writes what it found, a line of JSON
for each check, to RESULTS.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

import fastnce.torch
import sharded_checkpoints
import sharded_checks
import sharded_functions
import sharded_refusals
import sharded_updates
from sharded_cases import pairwise, run

CHECKS = {
    name.removeprefix("check_"): check
    for module in (sharded_refusals, sharded_checks, sharded_functions, sharded_checkpoints, sharded_updates)
    for name, check in vars(module).items()
    if name.startswith("check_")
}
NEED_TWO = (
    *(
        "other_arguments",
        "a_rank_that",
        "arguments_that",
        "factors_of_backward",
        "rows_of_true",
        "inputs_travel",
        "auto",
    ),
    *("what_an_unsharded", "what_the_in_batch", "dtypes_and_options", "strata_too_small", "functions_"),
)


def checks_of(size: int) -> dict[str, Callable[[int, int], None]]:
    """What can be checked with so many ranks."""
    return {name: check for name, check in CHECKS.items() if size > 1 or not name.startswith(NEED_TWO)}


def main() -> None:
    """Runs all cases. A case that fails on one rank alone leaves the others waiting: the group's time-out ends them."""
    rank, size, store, results = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", store=dist.FileStore(store, size), rank=rank, world_size=size, timeout=timedelta(seconds=60)
    )
    fastnce.set_num_threads(1)
    with results.open("w") if rank == 0 else open("/dev/null", "w") as out:
        cases: dict[str, Callable[[int, int], None]] = {str(case): partial(run, case) for case in pairwise()}
        for name, check in (cases | checks_of(size)).items():
            failure = ""
            try:
                check(rank, size)
            except Exception:
                failure = traceback.format_exc()
                print(name, failure, file=sys.stderr, flush=True)  # should others wait for this rank
            failures: list[Any] = [None] * size
            dist.all_gather_object(failures, failure)
            print(json.dumps({"name": name, "failures": failures}), file=out, flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
