"""The part of a table that a rank holds, with the loss and the samples that go with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fastnce import _core
from fastnce.torch._kernels import draw
from fastnce.torch.distributed._exchange import Exchange
from fastnce.torch.distributed._layout import owner_of, row_of, rows_of_rank


class Result(NamedTuple):
    """What a step computed for this rank."""

    loss: Tensor
    """``[b]``, before factors."""
    grad_inputs: Tensor | None
    """``[b, D]``."""
    rows: Tensor | None
    """int64 ``[n]``: the rows of this shard that have a gradient, ascending."""
    grad_weights: Tensor | None
    """``[n, D]``."""
    grad_biases: Tensor | None
    """``[n]``."""


class Samples(NamedTuple):
    """Sampled classes, and expected counts of them and of true classes; ``None`` for a loss without log Q."""

    classes: Tensor
    """int64 ``[S]``: classes of the whole table."""
    sampled_count: Tensor | None
    true_count: Tensor | None


@dataclass
class Shard:
    """Rows ``r, r + P, r + 2 P, ...`` of a table, on rank r of P."""

    exchange: Exchange
    weights: Tensor
    """``[rows, D]``."""
    biases: Tensor | None
    num_classes: int
    num_sampled: int
    options: dict[str, Any]
    """Fields of the request that make the loss what it is."""
    corrects: bool
    """Whether logits are corrected by log Q."""
    distribution: Any
    unique: bool
    seed: Tensor
    call: int
    stratum: Any = None
    """With stratified sampling, the distribution over the rows of this shard; else ``None``."""

    @property
    def fields(self) -> dict[str, Any]:
        """Of a request against the rows of this shard."""
        return {"weights": self.weights, "biases": self.biases, **self.options}

    def owns(self, classes: Tensor) -> Tensor:
        """Which of them are rows of this shard."""
        return owner_of(classes, self.exchange.size) == self.exchange.rank

    def global_samples(self, true_classes: Tensor) -> Samples:
        """What all ranks draw alike, of all classes; with the expected counts of true classes ``[n]``."""
        return self._draw(self.distribution, true_classes, self.seed, self.num_sampled, self.num_classes)

    def own_samples(self, true_classes: Tensor) -> Samples:
        """Those of the samples that are rows of this shard, with expected counts of true classes that are such, too."""
        if self.stratum is None:
            classes, sampled_count, true_count = self.global_samples(true_classes)
            own = self.owns(classes)
            return Samples(classes[own], None if sampled_count is None else sampled_count[own], true_count)
        rank, size = self.exchange.rank, self.exchange.size
        seed = self.seed + torch.tensor([0, rank])
        rows, *counts = self._draw(
            self.stratum, row_of(true_classes, size), seed, self.stratum_samples(rank), self.weights.shape[0]
        )
        return Samples(rows * size + rank, *counts)

    def stratum_samples(self, rank: int) -> int:
        """How many a rank draws from its own rows."""
        return samples_of_rank(self.num_sampled, rank, self.exchange.size)

    def _draw(self, distribution: Any, true_classes: Tensor, seed: Tensor, count: int, range_max: int) -> Samples:
        classes = true_classes if self.corrects else true_classes[:0]
        values = draw(distribution, classes.unsqueeze(1), self.call, seed, count, self.unique, range_max)
        sampled, true_count, sampled_count = (torch.as_tensor(value) for value in values)
        if not self.corrects:
            return Samples(sampled, None, None)
        return Samples(sampled, sampled_count, true_count.reshape(-1))


def stratum_of(distribution: Any, num_classes: int, exchange: Exchange) -> Any:
    """A distribution, given that the class is a row of this shard: an alias table of 12 bytes for each."""
    weights = _weights_of(distribution, num_classes, exchange.rank, exchange.size)
    return _core.UnigramTable.of_unigrams(weights, 1.0, 0, 1, 0, False)


def _weights_of(distribution: Any, num_classes: int, rank: int, size: int) -> Any:
    """What the probabilities of a rank's classes are in proportion to."""
    if isinstance(distribution, _core.UnigramTable):
        return np.ascontiguousarray(distribution.weights[rank::size])
    if distribution == "log_uniform":
        return np.log1p(1.0 / (np.arange(rank, num_classes, size, dtype=np.float64) + 1.0))
    if distribution == "uniform":
        return np.ones(rows_of_rank(num_classes, rank, size))
    raise ValueError(
        f"sampling = 'stratified' with the distribution {distribution}: expected log-uniform, uniform or unigram"
    )


def require_strata(distribution: Any, unique: bool, num_classes: int, num_sampled: int, size: int) -> None:
    """Raises ValueError unless each rank has classes enough for its share of the samples."""
    for rank in range(size):
        count = samples_of_rank(num_sampled, rank, size)
        possible = np.count_nonzero(_weights_of(distribution, num_classes, rank, size))
        if count < 1 or possible < (count if unique else 1):
            raise ValueError(
                f"sampling = 'stratified': rank {rank} of {size} draws {count} of num_sampled = {num_sampled} samples "
                f"from {possible} classes: expected at least one sample, and as many classes; or sampling='global'"
            )


def samples_of_rank(num_sampled: int, rank: int, size: int) -> int:
    """How many a rank draws from its own rows: the first ranks draw one more where they are not a multiple."""
    return num_sampled // size + (rank < num_sampled % size)
