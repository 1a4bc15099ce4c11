"""A training step of PyTorch: the loss and its row gradients as `pytorch.py` has them, handed to torch.optim.Adagrad as
coalesced sparse tensors."""

from __future__ import annotations

from typing import Any

import torch

from adapters import pytorch
from shapes import Candidates, Case


class Peer(pytorch.Peer):
    def __init__(self, threads: int) -> None:
        super().__init__(threads, "eager")

    def prepare(self, case: Case) -> None:
        super().prepare(case)
        self._parameters = [torch.nn.Parameter(table) for table in (self._weights, self._biases)]
        self._optimizer = torch.optim.Adagrad(self._parameters)

    def step(self, batch: int, candidates: Candidates | None = None) -> Any:
        losses, dx, ids, *gradients = super().step(batch, candidates)
        for parameter, rows in zip(self._parameters, gradients, strict=True):
            parameter.grad = torch.sparse_coo_tensor(
                ids.unsqueeze(0), rows, parameter.shape, is_coalesced=True, check_invariants=False
            )
        self._optimizer.step()
        return losses, dx

    def outputs(self, result: Any) -> None:
        """None: the tables are not those that were given any more."""
