"""The losses over sharded tables."""

from __future__ import annotations

from typing import Any

import torch

from fastnce.torch._arguments import require_number
from fastnce.torch._kind import NCEKind, NegativeSamplingKind, SampledSoftmaxKind
from fastnce.torch.distributed._module import ShardedLoss


class ShardedNCELoss(NCEKind, ShardedLoss):
    """:class:`fastnce.torch.NCELoss` over a table whose rows are spread over the ranks of a process group.

    >>> from fastnce.torch.distributed import ShardedNCELoss
    >>> criterion = ShardedNCELoss(num_classes=1_000_000_000, embedding_dim=64, num_sampled=4096)
    >>> loss = criterion(hidden, target)          # hidden [b, 64], target [b]: this rank's examples
    >>> loss.backward()                           # criterion.weight.grad is sparse, of this rank's rows

    Rank r of P holds the classes r, r + P, r + 2 P, ... as rows of ``weight``, an ordinary parameter for any optimizer
    that takes sparse gradients. All ranks make the module with the same arguments and call it together, each with its
    own examples, as many as it likes; see :func:`even_batches` for data that ends. The average of the ranks' losses is
    the loss of an unsharded module on all examples, and gradients are those of that average, as
    ``DistributedDataParallel`` and ``fully_shard`` average those of the model before it. Do not wrap the criterion in
    either.

    With ``scheme="rows_to_data"`` the rows of sampled and of true classes travel to each rank; with ``"data_to_rows"``
    the examples' inputs travel to the ranks that hold the rows. ``"auto"`` takes what moves fewer rows in the step.

    Args:
        num_classes: Number of classes, V.
        embedding_dim: Width, D.
        num_sampled: Classes to sample in each call, S.
        process_group: The ranks that share the table: a process group, or a device mesh of one axis, such as
            ``mesh["rows"]``; ``None`` for all.
        scheme: ``"auto"``, ``"rows_to_data"`` or ``"data_to_rows"``.
        sampling: ``"global"``: all ranks draw the same S classes of the whole table, those of an unsharded module of
            the same seed. ``"stratified"``: each draws S / P of its own rows (the first S mod P ranks one more), whose
            log Q is exact for that.
        bias: Whether classes have a bias.
        sampler: ``"log_uniform"`` (uniquely), or a sampler of fastnce that does not learn.
        remove_accidental_hits: Leave out sampled classes that are true classes of the example. ``None``: the default of
            the loss.
        true_target: ``"mean"``: each true class has target 1 / T. ``"one"``: 1. ``None``: the default of the loss.
        sparse: Gradients of weight and bias are sparse COO tensors, coalesced.
        reduction: ``"mean"`` over the examples of all ranks that have a true class, times P for each rank's share, so
            that the ranks' average is the mean; ``"sum"``; or ``"none"``, which runs the collectives again in the
            backward pass.
        ignore_index: A class that is left out.
        precision: As in :class:`fastnce.torch.NCELoss`.
        seed: Seed for sampling; ``None``: one that rank 0 chooses.
        optimizer: As in :class:`fastnce.torch.NCELoss`: ``backward()`` updates this rank's rows. Hand
            ``module.optimizer`` to :func:`save_checkpoint` and :func:`load_checkpoint`.
        device: Device of the parameters.
        dtype: Dtype of the parameters.

    Attributes:
        weight: ``[rows, D]``, this rank's; ``bias``: ``[rows]``, or ``None``.
        calls: Number of times the module has sampled: a buffer.

    Raises:
        ValueError: On every rank, if one was given other arguments; sizes or options out of range.
        RuntimeError: In a call, on every rank, if one refused its arguments, is at another call, or stopped.
    """


class ShardedSampledSoftmaxLoss(SampledSoftmaxKind, ShardedLoss):
    """:class:`fastnce.torch.SampledSoftmaxLoss` over a sharded table; see :class:`ShardedNCELoss`."""


class ShardedNegativeSamplingLoss(NegativeSamplingKind, ShardedLoss):
    """:class:`fastnce.torch.NegativeSamplingLoss` over a sharded table; see :class:`ShardedNCELoss`."""

    def __init__(
        self,
        num_classes: int,
        embedding_dim: int,
        num_sampled: int,
        *,
        positive_weight: float = 1.0,
        negative_weight: float = 1.0,
        **options: Any,
    ) -> None:
        """Initialise this rank's rows and the stream of samples; see the class for the arguments."""
        self.positive_weight, self.negative_weight = positive_weight, negative_weight
        super().__init__(num_classes, embedding_dim, num_sampled, **options)

    def _options(self) -> dict[str, Any]:
        table = torch.empty(0, device="cpu")
        return {
            **super()._options(),
            "positive_weight": require_number("positive_weight", self.positive_weight, table),
            "negative_weight": require_number("negative_weight", self.negative_weight, table),
        }
