"""A process group that counts what it moves between ranks; with PyTorch 2.13, which names its methods as here."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist
from torch import Tensor
from torch.distributed import distributed_c10d


class CountingGroup(dist.ProcessGroup):
    """Passes collectives on to another group of all ranks, and notes each with the elements that it brought from other
    ranks."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner.rank(), inner.size())
        self.inner = inner
        self.moved: list[tuple[str, tuple[int, ...], int, Any]] = []
        """Collective, shape that this rank passed, elements, dtype."""
        world = distributed_c10d._world
        world.pg_group_ranks[self] = {rank: rank for rank in range(inner.size())}
        world.pg_map[self] = ("gloo", world.pg_map[inner][1])

    def _note(self, name: str, own: Tensor, elements: int) -> None:
        self.moved.append((name, tuple(own.shape), elements, own.dtype))

    def all_gather_single(self, gathered: Tensor, own: Tensor, options: Any) -> Any:
        self._note("all_gather", own, own.numel() * (self.size() - 1))
        return self.inner.all_gather_single(gathered, own, options)

    def all_to_all_single(
        self, received: Tensor, sent: Tensor, receive: list[int], send: list[int], options: Any
    ) -> Any:
        row = sent[0].numel() if len(sent) else received[0].numel() if len(received) else 0
        remote = sum(receive) - receive[self.rank()] if receive else len(received) * (self.size() - 1) // self.size()
        self._note("all_to_all", sent, remote * row)
        return self.inner.all_to_all_single(received, sent, receive, send, options)

    def allgather(self, gathered: Any, own: Any, options: Any) -> Any:
        """Of objects, when a module is made."""
        return self.inner.allgather(gathered, own, options)

    def getBackendName(self) -> str:
        return "counting"
