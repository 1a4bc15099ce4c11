"""A training step of fastnce: `train_step`, which updates the tables in place. Variants: the optimizers; and
"two_calls", the loss with its gradients and then Adagrad's `update_rows`."""

from __future__ import annotations

from typing import Any

import fastnce
from adapters import fastnce as adapter
from shapes import Candidates, Case

OPTIMIZERS = {
    "adagrad": fastnce.optim.Adagrad,
    "rowwise_adagrad": fastnce.optim.RowwiseAdagrad,
    "two_calls": fastnce.optim.Adagrad,
}


class Peer(adapter.Peer):
    def __init__(self, threads: int, optimizer: str) -> None:
        super().__init__(threads, "highest")
        self._variant = optimizer

    def prepare(self, case: Case) -> None:
        super().prepare(case)
        self._optimizer = OPTIMIZERS[self._variant](self._weights, self._biases)

    def step(self, batch: int, candidates: Candidates | None = None) -> Any:
        if self._variant == "two_calls":
            _, grads = super().step(batch, candidates)
            return self._optimizer.update_rows(*grads.rows)
        labels, inputs = self._batches[batch]
        S, V, T = self._shape.S, self._shape.V, self._shape.T
        return fastnce.train_step(self._loss_and_grad, self._optimizer, labels, inputs, S, V, T, candidates)

    def outputs(self, result: Any) -> None:
        """None: the tables are not those that were given any more."""
