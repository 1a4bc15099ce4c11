"""One rank of measure.py: what a step of a sharded loss moves, and how far it raises the memory of the process.

python bench/sharded/step.py RANK SIZE STORE REQUEST
"""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from torch import Tensor

sys.path += [str(Path(__file__).parents[1] / "peers"), str(Path(__file__).parents[2] / "tests")]

import fastnce.torch
from counting_group import CountingGroup
from fastnce.torch.distributed import ShardedNCELoss
from fastnce.torch.distributed._exchange import Exchange, Pending
from memory import extra_peak_bytes

WARM = {"classes": 1000, "dim": 8, "batch": 4, "labels": 1, "sampled": 16}


class Problem:
    """A table, and a batch of each rank whose labels are log-uniform."""

    def __init__(self, shape: dict[str, int], scheme: Any, group: Any) -> None:
        classes, batch = shape["classes"], shape["batch"]
        generator = torch.Generator().manual_seed(1 + dist.get_rank())
        self.inputs = torch.randn((batch, shape["dim"]), generator=generator, requires_grad=True)
        uniform = torch.rand((batch, shape["labels"]), generator=generator, dtype=torch.float64)
        self.labels = ((classes + 1) ** uniform).long().clamp(1, classes) - 1
        sizes = classes, shape["dim"], shape["sampled"]
        self.criterion = ShardedNCELoss(*sizes, process_group=group, scheme=scheme, seed=1)

    def step(self) -> None:
        """Forward and backward pass, without an optimizer; the gradients stay."""
        self.criterion(self.inputs, self.labels).backward()


def moved(step: Any, group: CountingGroup) -> dict[str, dict[str, int]]:
    """Elements and bytes of a step, by what they are."""
    names: list[str] = []
    start = Exchange._start

    def named(self: Exchange, what: str, *rest: Any) -> Pending:
        names.append(what.split(" of ", 1)[1])
        return start(self, what, *rest)

    group.moved.clear()
    with mock.patch.object(Exchange, "_start", named):
        step()
    return {
        name: {"elements": elements, "bytes": elements * dtype.itemsize}
        for name, (*_, elements, dtype) in zip(names, group.moved, strict=True)
    }


def remote_classes(labels: Tensor) -> tuple[int, int, int]:
    """Distinct true classes of this rank; those of them that others hold; those that others ask of this rank."""
    rank, size = dist.get_rank(), dist.get_world_size()
    of_ranks: list[Any] = [None] * size
    dist.all_gather_object(of_ranks, labels.unique())
    asked = sum(int((classes % size == rank).sum()) for other, classes in enumerate(of_ranks) if other != rank)
    return len(of_ranks[rank]), int((of_ranks[rank] % size != rank).sum()), asked


def main() -> None:
    """Prints what it found, as JSON."""
    rank, size, store, request = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4])
    torch.set_num_threads(1)
    fastnce.set_num_threads(1)
    timeout = timedelta(seconds=120)
    dist.init_process_group("gloo", store=dist.FileStore(store, size), rank=rank, world_size=size, timeout=timeout)
    whole = dist.distributed_c10d._get_default_group()
    group: Any = CountingGroup(whole) if size > 1 else whole
    Problem(WARM, request["scheme"], group).step()  # what is made once: threads, connections, code
    made: list[Problem] = []
    table = extra_peak_bytes(lambda: made.append(Problem(request["shape"], request["scheme"], group)), lambda _: 0)
    problem = made[0]
    dist.barrier()
    memory = extra_peak_bytes(problem.step, lambda _: 0)
    problem.criterion.zero_grad()
    problem.inputs.grad = None
    traffic = moved(problem.step, group) if size > 1 else {}
    distinct, remote, asked = remote_classes(problem.labels)
    found = {"distinct": distinct, "remote": remote, "asked": asked, "moved": traffic}
    print(json.dumps(found | {"made_bytes": table["extra_bytes"], "step_bytes": memory["extra_bytes"]}))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
