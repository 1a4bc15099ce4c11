"""fastnce itself: NumPy arrays in and out, sampling by default (log-uniform, unique). Variants: its precisions."""

from __future__ import annotations

from typing import Any

import fastnce
from protocol import Adapter, Outputs
from shapes import Candidates, Case


class Peer(Adapter):
    def __init__(self, threads: int, precision: str) -> None:
        super().__init__(threads)
        fastnce.set_num_threads(threads)
        fastnce.set_precision(precision)

    def versions(self) -> dict[str, Any]:
        return fastnce.config()

    def prepare(self, case: Case) -> None:
        self._shape = case.shape
        self._weights, self._biases = case.table()
        self._batches = case.batches
        self._loss_and_grad = getattr(fastnce, f"{case.loss}_and_grad")

    def step(self, batch: int, candidates: Candidates | None = None) -> Any:
        labels, inputs = self._batches[batch]
        S, V, T = self._shape.S, self._shape.V, self._shape.T
        return self._loss_and_grad(self._weights, self._biases, labels, inputs, S, V, T, candidates)

    def outputs(self, result: Any) -> Outputs:
        loss, grads = result
        return Outputs(loss, grads.inputs, *grads.rows)
