"""The losses as modules that own the class table."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from fastnce import _core
from fastnce._seed import Seed, integer
from fastnce.torch._arguments import (
    Precision,
    Reduction,
    is_eager,
    require_device,
    require_example_weight,
    require_loss_arguments,
    require_reduction,
    seed_tensor,
)
from fastnce.torch._functional import sampled_loss
from fastnce.torch._ignored import leave_out
from fastnce.torch._stream import give_back, new_key, next_call


class NCELoss(nn.Embedding):
    """Noise-contrastive estimation over a table of class embeddings that the module owns: :func:`fastnce.nce_loss`.

    >>> criterion = fastnce.torch.NCELoss(num_classes=50_000, embedding_dim=128, num_sampled=64)
    >>> loss = criterion(hidden, target)          # hidden [B, 128], target [B]
    >>> loss.backward()                           # criterion.weight.grad is sparse: B + 64 rows at the most

    Every call samples afresh, log-uniformly and uniquely: classes should be sorted by falling frequency. The bias
    starts at ``-log(num_classes)``, so that a model whose logits are still small is normalised: NCE learns the
    log-probability of a class as ``input . weight[k] + bias[k]``. ``loss.weight = embedding.weight`` ties tables.

    It is an ``nn.Embedding`` of the classes, for ``DistributedDataParallel`` expects sparse gradients of nothing else.

    Args:
        num_classes: Number of classes, V.
        embedding_dim: Width, D.
        num_sampled: Classes to sample in each call, S.
        num_true: True classes per example, T.
        sampler: ``"log_uniform"``, the only one so far.
        remove_accidental_hits: Leave out sampled classes that are true classes of the example.
        sparse: Gradients of weight and bias are sparse: for ``SGD``, ``Adagrad`` and ``SparseAdam``.
        reduction: ``"mean"`` over the examples that are not ignored (whatever their weights), ``"sum"``, or ``"none"``.
        ignore_index: Examples whose classes are all ``ignore_index`` are left out: a loss of 0, gradients of 0. If all
            examples are, the mean is 0, too. ``None`` disables this, which saves work on a CUDA device and in compiled
            graphs.
        precision: ``"highest"``, ``"high"`` or ``"medium"``; ``None`` for the setting of :func:`fastnce.set_precision`.
        seed: Of the samples, as in :func:`fastnce.log_uniform_candidate_sampler`.
        device: Of the parameters.
        dtype: Of the parameters: float32, float64, float16 or bfloat16.

    Attributes:
        weight: ``[V, D]``, uniform in ``+-1 / sqrt(D)`` at first.
        bias: ``[V]``.
        calls: How many times the module has sampled: a buffer, saved with the seed in ``state_dict``, so that a run
            that is taken up again draws what it would have drawn.

    Raises:
        ValueError: Sizes or options out of range.
        TypeError: Sizes that are not integers.
    """

    weight: nn.Parameter
    bias: nn.Parameter
    calls: Tensor

    def __init__(
        self,
        num_classes: int,
        embedding_dim: int,
        num_sampled: int,
        *,
        num_true: int = 1,
        sampler: str = "log_uniform",
        remove_accidental_hits: bool = False,
        sparse: bool = True,
        reduction: Reduction = "mean",
        ignore_index: int | None = -100,
        precision: Precision | None = None,
        seed: Seed = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if sampler != "log_uniform":
            raise ValueError(f"sampler = {sampler!r}: expected 'log_uniform'")
        require_reduction(reduction)
        _core.check_sampler(num_true, num_sampled, True, num_classes)
        table = torch.empty((num_classes, embedding_dim), device=device, dtype=dtype)
        super().__init__(num_classes, embedding_dim, sparse=sparse, _weight=table)
        self.num_sampled, self.num_true = num_sampled, num_true
        self.sampler, self.reduction, self.ignore_index = sampler, reduction, ignore_index
        self.remove_accidental_hits, self.precision = remove_accidental_hits, precision
        if ignore_index is not None:
            integer(ignore_index, "ignore_index")
        self._seed, self._key = seed_tensor(seed), new_key()
        self.bias = nn.Parameter(torch.empty(num_classes, device=device, dtype=dtype))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64, device=device))
        self.reset_parameters()

    @property
    def num_classes(self) -> int:
        """Number of classes, V."""
        return self.num_embeddings

    def reset_parameters(self) -> None:
        """Everything as it is at first, but for the seed: parameters, and the position in the stream of samples."""
        bound = 1 / math.sqrt(max(self.embedding_dim, 1))
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.constant_(self.bias, -math.log(self.num_embeddings))
        self.calls.zero_()

    def forward(self, input: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """The loss.

        Args:
            input: ``[B, D]``.
            target: ``[B]`` or ``[B, num_true]`` classes, integers in [0, num_classes) or ``ignore_index``.
            weight: ``[B]`` factors of the examples' losses.

        Returns:
            A scalar, or ``[B]`` for ``reduction="none"``; float64 for float64 inputs, else float32.

        Raises:
            ValueError: Shapes that do not match, tensors on different devices; on the CPU, classes out of range and
                rows of target in which only some classes are ``ignore_index`` (on a CUDA device the loss is NaN).
            TypeError: Unsupported or mixed dtypes.
        """
        tables = (self.weight, self.bias)
        require_loss_arguments(input, target, *tables, self.reduction, self.ignore_index)
        require_example_weight("weight", weight, input)
        require_device(input.device, "input", calls=self.calls)
        eager = is_eager(input, target, *tables, self.calls)
        batch = leave_out(input, target, self.ignore_index, eager)
        options = (self.remove_accidental_hits, self.precision, self.sparse)

        def loss_of(number: Tensor) -> Tensor:
            sizes = (self.num_sampled, self.num_embeddings, self.num_true)
            candidates = (None, None, None, number, self._seed, *sizes)
            return sampled_loss(batch, *tables, candidates, weight, self.reduction, options, eager)

        if not eager:
            return loss_of(torch.ops.fastnce.next_call(self.calls, target, self._key))
        number = next_call(self.calls, target, self._key)
        try:
            return loss_of(number)
        except BaseException:
            give_back(self.calls, number)
            raise

    def get_extra_state(self) -> Tensor:
        """The seed of the samples, for ``state_dict``."""
        return self._seed

    def set_extra_state(self, state: Tensor) -> None:
        """The seed, from ``state_dict``."""
        if not isinstance(state, Tensor) or state.shape != (2,) or state.dtype != torch.int64:
            raise ValueError(f"the extra state is {state!r}: expected a seed of two words, an int64 tensor")
        self._seed = state.detach().clone().cpu()

    def extra_repr(self) -> str:
        """What the module was made with, without what is as by default."""
        options = {
            "num_true": (self.num_true, 1),
            "remove_accidental_hits": (self.remove_accidental_hits, False),
            "sparse": (self.sparse, True),
            "reduction": (self.reduction, "mean"),
            "ignore_index": (self.ignore_index, -100),
            "precision": (self.precision, None),
        }
        given = [f"{name}={value!r}" for name, (value, default) in options.items() if value != default]
        return ", ".join([f"{self.num_embeddings}, {self.embedding_dim}, num_sampled={self.num_sampled}", *given])
