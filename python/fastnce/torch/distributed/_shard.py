"""The part of a table that a rank holds, and what a step computes for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from fastnce.torch.distributed._exchange import Exchange
from fastnce.torch.distributed._layout import owner_of
from fastnce.torch.distributed._sampling import Sampling


class Result(NamedTuple):
    """What a step computed for this rank."""

    loss: Tensor
    """``[b]``, before factors."""
    grad_inputs: Tensor | None
    """``[b, D]``."""
    rows: Tensor | None
    """int64 ``[n]``: the rows of this shard that have a gradient, ascending; ``None``: all."""
    grad_weights: Tensor | None
    """``[n, D]``."""
    grad_biases: Tensor | None
    """``[n]``."""


@dataclass
class Shard:
    """Rows ``r, r + P, r + 2 P, ...`` of a table, on rank r of P."""

    exchange: Exchange
    weights: Tensor
    """``[rows, D]``."""
    biases: Tensor | None
    options: dict[str, Any]
    """Fields of the request that make the loss what it is."""
    sampling: Sampling | None = None
    """``None``: the loss is over all classes."""

    @property
    def fields(self) -> dict[str, Any]:
        """Of a request against the rows of this shard."""
        return {"weights": self.weights, "biases": self.biases, **self.options}

    def owns(self, classes: Tensor) -> Tensor:
        """Which of them are rows of this shard."""
        return owner_of(classes, self.exchange.size) == self.exchange.rank
