"""A run that saves checkpoints and goes on from the last one. Rank 1 may be killed in the middle of a step; then the
other ranks print how theirs ends.

    python tests/sharded_killed.py RANK SIZE STORE FOLDER CALL

FOLDER is for the checkpoints; CALL is that in which rank 1 is killed, or 0. A rank that comes to the end prints its
losses and where it began; rank 0 writes the tables to FOLDER/table.safetensors.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

import fastnce
from fastnce.torch import distributed
from fastnce.torch.distributed import _data_to_rows
from sharded_table import D, S, V, trained

STEPS, SAVED = 9, 3
"""Steps of the run, and after how many it is saved."""


def kill_in_call(call: int, criterion: distributed.ShardedNCELoss) -> None:
    """This process, while it scores what has arrived."""
    compute = _data_to_rows.part_of_loss

    def killed(*arguments: Any, **options: Any) -> Any:
        if int(criterion.calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return compute(*arguments, **options)

    _data_to_rows.part_of_loss = killed


def main() -> None:
    """Trains until the end, or until a collective fails."""
    rank, size, store, folder, call = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4]), sys.argv[5]
    torch.set_num_threads(1)
    fastnce.set_num_threads(1)
    timeout = timedelta(seconds=20)
    dist.init_process_group("gloo", store=dist.FileStore(store, size), rank=rank, world_size=size, timeout=timeout)
    goes_on = (folder / "latest.json").exists()
    torch.manual_seed(100 * goes_on + rank)  # tables and samples of a run that goes on are those of the checkpoint
    criterion = distributed.ShardedNCELoss(*(V, D, S), scheme="data_to_rows", seed=8 if goes_on else 5)
    optimizer = torch.optim.Adagrad(criterion.parameters(), lr=0.3)
    begin = distributed.load_checkpoint(folder, criterion, optimizer)["step"] if goes_on else 0
    if rank == 1:
        kill_in_call(int(call), criterion)
    losses = []
    try:
        for step in range(begin, STEPS):
            losses += trained(criterion, optimizer, rank, range(step, step + 1))
            if (step + 1) % SAVED == 0:
                distributed.save_checkpoint(folder, criterion, optimizer, {"step": step + 1})
    except RuntimeError as error:
        print(f"call {int(criterion.calls)}: {error}", flush=True)
        os._exit(0)  # as a trainer would end, not wait for the group
    if rank == 0:
        distributed.consolidate_checkpoint(folder, folder / "table.safetensors")
    print(json.dumps({"begin": begin, "losses": losses}))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
