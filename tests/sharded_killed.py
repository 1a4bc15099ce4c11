"""Rank 1 is killed in the middle of a step; the other ranks print how theirs ends.

python tests/sharded_killed.py RANK SIZE STORE
"""

from __future__ import annotations

import os
import signal
import sys
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from fastnce.torch import distributed
from fastnce.torch.distributed import _data_to_rows


def main() -> None:
    """Trains until a collective fails."""
    rank, size, store = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    timeout = timedelta(seconds=20)
    dist.init_process_group("gloo", store=dist.FileStore(store, size), rank=rank, world_size=size, timeout=timeout)
    criterion = distributed.ShardedNCELoss(50, 4, 8, scheme="data_to_rows", seed=1)
    compute = _data_to_rows.part_of_loss

    def killed(*arguments: Any, **options: Any) -> Any:
        if rank == 1 and criterion.calls == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return compute(*arguments, **options)

    _data_to_rows.part_of_loss = killed
    try:
        while criterion.calls < 10:
            criterion(torch.randn(3, 4), torch.arange(3)).backward()
    except RuntimeError as error:
        print(f"call {int(criterion.calls)}: {error}", flush=True)
        os._exit(0)  # as a trainer would end, not wait for the group


if __name__ == "__main__":
    main()
