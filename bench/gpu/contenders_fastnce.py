"""fastnce itself: torch tensors in and out, sampling by default (log-uniform, unique)."""

from __future__ import annotations

import inspect
from typing import Any

import fastnce
from contender import Contender, Outputs, Tolerance
from problems import Candidates

HAS_PAD_ROWS = "pad_rows" in inspect.signature(fastnce.nce_loss_and_grad).parameters


class Fastnce(Contender):
    """The default: as many rows as there are ids, so that the host waits to learn how many."""

    kind = "fastnce wait"
    options: dict[str, Any] = {}  # noqa: RUF012 (never changed)

    @property
    def tolerance(self) -> Tolerance:
        return self.level.fastnce

    @property
    def _precision(self) -> str:
        return self.level.key.split()[1]

    def step(self, batch: int, candidates: Candidates | None = None) -> Any:
        problem, shape = self.problem, self.problem.shape
        labels, inputs = problem.batches[batch]
        return fastnce.nce_loss_and_grad(
            problem.weights,
            problem.biases,
            labels,
            inputs,
            shape.S,
            shape.V,
            shape.T,
            candidates,
            precision=self._precision,
            **self.options,
        )

    def outputs(self, result: Any) -> Outputs:
        loss, grads = result
        return Outputs(loss, grads.inputs, grads.rows.ids, grads.rows.weights, grads.rows.biases)


class Padded(Fastnce):
    """Rows padded to B·T + S: nothing waits."""

    kind = "fastnce"
    options = {"pad_rows": True}  # noqa: RUF012 (never changed)
    capturable = True


class Loss(Fastnce):
    """Without gradients."""

    kind = "fastnce loss"
    gradients = False

    def step(self, batch: int, candidates: Candidates | None = None) -> Any:
        problem, shape = self.problem, self.problem.shape
        labels, inputs = problem.batches[batch]
        return fastnce.nce_loss(
            problem.weights,
            problem.biases,
            labels,
            inputs,
            shape.S,
            shape.V,
            shape.T,
            candidates,
            precision=self._precision,
        )

    def outputs(self, result: Any) -> Outputs:
        return Outputs(result)
