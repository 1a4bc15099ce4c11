"""The samples of a step: drawn by every rank alike, by each from its own rows, or given by the caller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from fastnce import _core
from fastnce.torch._kernels import draw
from fastnce.torch.distributed._exchange import Exchange
from fastnce.torch.distributed._layout import owner_of, row_of, rows_of_rank


class Samples(NamedTuple):
    """Sampled classes, and expected counts of them and of true classes; ``None`` for a loss without log Q."""

    classes: Tensor
    """int64 ``[S]``: classes of the whole table."""
    sampled_count: Tensor | None
    true_count: Tensor | None

    def on(self, exchange: Exchange) -> Samples:
        """Those that are rows of this rank; the counts of true classes as they are."""
        own = owner_of(self.classes, exchange.size) == exchange.rank
        return Samples(
            self.classes[own], None if self.sampled_count is None else self.sampled_count[own], self.true_count
        )


class Sampling(Protocol):
    """Where the samples of a step come from."""

    @property
    def num_sampled(self) -> int:
        """Of all ranks."""

    @property
    def is_stratified(self) -> bool:
        """Whether a rank knows those of its own rows alone."""

    def of_table(self, true_classes: Tensor, true_count: Tensor | None) -> Samples:
        """All samples, where all ranks know them; with the expected counts of true classes ``[n]``."""

    def of_rank(self, exchange: Exchange, true_classes: Tensor, true_count: Tensor | None) -> Samples:
        """Those that are rows of this rank, with the expected counts of true classes that are such, too."""


@dataclass
class Given:
    """The caller's, the same on all ranks. Expected counts of true classes come with these."""

    classes: Tensor
    sampled_count: Tensor | None
    is_stratified = False

    @property
    def num_sampled(self) -> int:
        """Of all ranks."""
        return self.classes.shape[0]

    def of_table(self, true_classes: Tensor, true_count: Tensor | None) -> Samples:
        """As in :class:`Sampling`."""
        return Samples(self.classes, self.sampled_count, true_count)

    def of_rank(self, exchange: Exchange, true_classes: Tensor, true_count: Tensor | None) -> Samples:
        """As in :class:`Sampling`."""
        return self.of_table(true_classes, true_count).on(exchange)


@dataclass
class Drawn:
    """Drawn by a seed, which also gives the expected counts of any class."""

    num_classes: int
    num_sampled: int
    corrects: bool
    """Whether logits are corrected by log Q."""
    distribution: Any
    unique: bool
    seed: Tensor
    call: int
    stratum: Any = None
    """With stratified sampling, the distribution over the rows of this rank; else ``None``."""

    @property
    def is_stratified(self) -> bool:
        """Whether a rank knows those of its own rows alone."""
        return self.stratum is not None

    def of_table(self, true_classes: Tensor, true_count: Tensor | None = None) -> Samples:
        """As in :class:`Sampling`."""
        return self._draw(self.distribution, true_classes, self.seed, self.num_sampled, self.num_classes)

    def of_rank(self, exchange: Exchange, true_classes: Tensor, true_count: Tensor | None = None) -> Samples:
        """As in :class:`Sampling`."""
        rank, size = exchange.rank, exchange.size
        if self.stratum is None:
            return self.of_table(true_classes).on(exchange)
        seed = self.seed + torch.tensor([0, rank], device="cpu")
        count = samples_of_rank(self.num_sampled, rank, size)
        rows = rows_of_rank(self.num_classes, rank, size)
        drawn, *counts = self._draw(self.stratum, row_of(true_classes, size), seed, count, rows)
        return Samples(drawn * size + rank, *counts)

    def _draw(self, distribution: Any, true_classes: Tensor, seed: Tensor, count: int, range_max: int) -> Samples:
        classes = true_classes if self.corrects else true_classes[:0]
        call = self.call if classes.is_cpu else torch.tensor(self.call, device=classes.device)
        values = draw(distribution, classes.unsqueeze(1), call, seed, count, self.unique, range_max)
        sampled, true_count, sampled_count = (torch.as_tensor(value, device=classes.device) for value in values)
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
