"""The examples of a rank, as both schemes take them, and what all ranks tell each other before a step."""

from __future__ import annotations

import functools
import math
import struct
import zlib
from dataclasses import dataclass

import torch
from torch import Tensor

from fastnce.torch._arguments import FLOATS
from fastnce.torch._kernels import Gradients
from fastnce.torch._shapes import loss_dtype
from fastnce.torch.distributed._exchange import Exchange
from fastnce.torch.distributed._layout import offsets_of


@dataclass
class Lists:
    """A list of classes for each of n examples."""

    values: Tensor
    """int64: the lists, one after the other."""
    counts: Tensor
    """int64 ``[n]`` lengths of the lists."""

    @functools.cached_property
    def distinct(self) -> tuple[Tensor, Tensor]:
        """The classes, each once, ascending; and the place of each value among them."""
        classes, places = torch.unique(self.values, return_inverse=True)
        return classes, places

    @property
    def examples(self) -> Tensor:
        """The example of each value."""
        return torch.repeat_interleave(self.counts, output_size=self.values.shape[0])

    @property
    def offsets(self) -> Tensor:
        """int64 ``[n + 1]``."""
        return offsets_of(self.counts)

    def sums(self, values: Tensor | None) -> Tensor:
        """float64 ``[n]``: of numbers, one for each class; ``None``: all 1."""
        if values is None:
            return self.counts.double()
        sums = self.counts.new_zeros(self.counts.shape, dtype=torch.float64)
        return sums.index_add_(0, self.examples, values.double())

    def targets(self, weights: Tensor | None, counts: Tensor, true_target: str) -> Tensor:
        """float64 ``[n]``: the sums of the targets of these labels, of which an example has ``counts`` on all ranks."""
        return self.sums(weights) if true_target == "one" else self.sums(weights) / counts.clamp(min=1)

    def select(self, mask: Tensor) -> Lists:
        """The lists without the values that the mask leaves out."""
        counts = torch.bincount(self.examples[mask], minlength=self.counts.shape[0])
        return Lists(self.values[mask], counts)


@dataclass
class Batch:
    """Examples without what is ignored: a true class that is ``ignore_index`` is not among the labels."""

    inputs: Tensor
    """``[b, D]``."""
    labels: Lists
    label_weights: Tensor | None = None
    """One for each label."""
    true_count: Tensor | None = None
    """One for each label: expected counts, where the caller gave these with the samples."""
    exclude: Lists | None = None
    factors: Tensor | None = None
    """``[b]``: of the losses; ``None``: all 1."""

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All but the inputs."""
        lists = [self.labels] if self.exclude is None else [self.labels, self.exclude]
        of_lists = [tensor for one in lists for tensor in (one.values, one.counts)]
        given = (self.label_weights, self.true_count, self.factors)
        return (*of_lists, *(tensor for tensor in given if tensor is not None))

    @property
    def ignored(self) -> Tensor:
        """``[b]``: which examples have no true class; their factors are not read."""
        return self.labels.counts == 0

    @property
    def label_weight_sums(self) -> Tensor | None:
        """float64 ``[b]``; ``None``: the counts."""
        return None if self.label_weights is None else self.labels.sums(self.label_weights)


def batch_of(
    *,
    input: Tensor,
    labels: Tensor,
    offsets: Tensor | None,
    ignore_index: int | None,
    label_weights: Tensor | None,
    true_count: Tensor | None,
    excluded: Tensor | None,
    exclude_offsets: Tensor | None,
    factors: Tensor | None,
) -> Batch:
    """The examples of arguments that were checked."""
    rows = input.detach().reshape(math.prod(input.shape[:-1]), input.shape[-1])
    if offsets is None:
        num_true = labels.shape[-1] if labels.dim() == input.dim() else 1
        counts = torch.full((rows.shape[0],), num_true, dtype=torch.int64, device=input.device)
    else:
        counts = offsets.long().diff()
    lists = Lists(labels.reshape(-1).long(), counts)
    per_label = [
        None if values is None else values.reshape(-1).to(loss_dtype(input)) for values in (label_weights, true_count)
    ]
    if ignore_index is not None:
        kept = lists.values != ignore_index
        if not bool(kept.all()):
            per_label = [None if values is None else values[kept] for values in per_label]
            lists = lists.select(kept)
    exclude = None
    if excluded is not None and exclude_offsets is not None:
        exclude = Lists(excluded.long(), exclude_offsets.long().diff())
    batch = Batch(rows, lists, per_label[0], per_label[1], exclude)
    if factors is not None:
        batch.factors = factors.detach().reshape(-1).to(loss_dtype(input)).masked_fill(batch.ignored, 0)
    return batch


@dataclass
class Header:
    """What the ranks know of each other's batches: lists have a number for each rank."""

    examples: list[int]
    labels: list[int]
    distinct: list[int]
    """Classes among the labels; 0 where inputs travel, whatever these are."""
    excluded: list[int]
    taking_part: int
    """Examples of all ranks that have a true class."""
    gradients: Gradients
    """What one of the ranks asks for: all compute it, since all have a share in it."""
    label_weights: bool
    """Whether the ranks have such."""
    exclude: bool
    factors: bool


@dataclass
class Own:
    """What a rank tells the others of itself before a step, besides the sizes of its batch."""

    gradients: Gradients
    """Those that it asks for."""
    agreed: dict[str, int]
    """Numbers that all ranks share, by what they are."""
    factors: list[float]
    """Gradients of the losses, in the backward passes since the step before."""
    has_own_factors: bool = False
    """Whether its losses leave the step one by one."""
    fault: bool = False
    rows_may_travel: bool = True


def header_of(exchange: Exchange, batch: Batch, own: Own) -> Header:
    """Exchanges the sizes of the batches.

    Raises:
        RuntimeError: On every rank, if one has a fault, another number that all share, arguments that another has not,
            or had other factors in the backward passes before.
    """
    excluded = 0 if batch.exclude is None else batch.exclude.values.shape[0]
    classes = batch.labels.distinct[0].shape[0] if own.rows_may_travel else 0
    taking_part = batch.inputs.shape[0] - int(batch.ignored.sum())
    sizes = [batch.inputs.shape[0], batch.labels.values.shape[0], classes, excluded, taking_part]
    given = [values is not None for values in (batch.label_weights, batch.exclude, batch.factors)]
    agreed = {
        **own.agreed,
        "dtype of input": FLOATS.index(batch.inputs.dtype),
        "losses with factors of their own": own.has_own_factors,
        **dict(zip(("label_weights given", "exclude given", "weight given"), given, strict=True)),
    }
    factors = [len(own.factors), bits_of(*own.factors)]
    numbers = [own.fault, *factors, *own.gradients, *sizes, *agreed.values()]
    columns = [list(column) for column in zip(*exchange.numbers("sizes of the batches", numbers), strict=True)]
    faults, passes, factor_bits = columns[:3]
    if not own.fault:
        raise_if_refused(faults)
        require_equal(dict(zip(agreed, columns[11:], strict=True)))
        _require_equal_factors(passes, factor_bits)
    of_any = [any(values) for values in columns[3:6]]
    examples, labels, distinct, excludes, counts = columns[6:11]
    return Header(examples, labels, distinct, excludes, sum(counts), (of_any[0], of_any[1], of_any[2]), *given)


def bits_of(*numbers: float) -> int:
    """A hash of 32 bits, the same for every NaN."""
    same_nan = (math.nan if math.isnan(number) else number for number in numbers)
    return zlib.crc32(struct.pack(f"{len(numbers)}d", *same_nan))


def _require_equal_factors(passes: list[int], bits: list[int]) -> None:
    """Of the ranks that had backward passes: one whose gradients nobody asked for has none."""
    of_some = {(count, word) for count, word in zip(passes, bits, strict=True) if count > 0}
    if len(of_some) > 1:
        raise RuntimeError(
            "the backward passes since the last call differ between the ranks, in their number or in the gradient of "
            f'the loss that they began with: {passes} passes; losses of different factors need reduction="none"'
        )


def raise_if_refused(faults: list[int]) -> None:
    """Raises RuntimeError if a rank has a fault."""
    if any(faults):
        raise RuntimeError(
            f"rank {faults.index(1)} refused its arguments, so that no rank can compute the loss: see its error"
        )


def require_equal(of_ranks: dict[str, list[int]]) -> None:
    """Raises RuntimeError unless all ranks have the same numbers."""
    for what, values in of_ranks.items():
        for rank, value in enumerate(values):
            if value != values[0]:
                raise RuntimeError(
                    f"{what}: {value} on rank {rank}, {values[0]} on rank 0: expected the same on all ranks"
                )
