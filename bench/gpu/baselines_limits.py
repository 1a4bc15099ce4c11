"""Limits, not peers: cuBLAS's three bare products, rows already gathered and outputs allocated."""

from __future__ import annotations

from typing import Any

import torch

from contender import Contender, Level
from problems import Candidates, Problem


class Products(Contender):
    """X·Wᵀ, G·W and Gᵀ·X, where the logits stand in for G."""

    kind = "cuBLAS"
    capturable = True

    def __init__(self, problem: Problem, level: Level) -> None:
        super().__init__(problem, level)
        shape = problem.shape
        like: dict[str, Any] = {"dtype": problem.dtype, "device": problem.device}
        self._rows = problem.weights[: shape.S].clone()
        self._logits = torch.empty(shape.B, shape.S, **like)
        self._dx = torch.empty(shape.B, shape.D, **like)
        self._drows = torch.empty(shape.S, shape.D, **like)

    @torch.no_grad()
    def step(self, batch: int, candidates: Candidates | None = None) -> Any:
        inputs = self.problem.batches[batch].inputs
        torch.mm(inputs, self._rows.t(), out=self._logits)
        torch.mm(self._logits, self._rows, out=self._dx)
        torch.mm(self._logits.t(), inputs, out=self._drows)

    def outputs(self, result: Any) -> None:
        return None
