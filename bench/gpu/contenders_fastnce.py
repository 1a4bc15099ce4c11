"""fastnce itself: torch tensors in and out, sampling by default (log-uniform, unique)."""

from __future__ import annotations

from typing import Any

import fastnce
from contender import Contender, Outputs, Tolerance
from problems import Candidates


class Fastnce(Contender):
    """The default: as many rows as there are ids, so that the host waits to learn how many."""

    kind = "fastnce wait"
    function: Any = staticmethod(fastnce.nce_loss_and_grad)
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
        return self.function(
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
    """Rows padded to B·T + S: the host never waits."""

    kind = "fastnce"
    options = {"pad_rows": True}  # noqa: RUF012 (never changed)
    capturable = True


class Loss(Fastnce):
    """Without gradients."""

    kind = "fastnce loss"
    gradients = False

    function = staticmethod(fastnce.nce_loss)

    def outputs(self, result: Any) -> Outputs:
        return Outputs(result)
