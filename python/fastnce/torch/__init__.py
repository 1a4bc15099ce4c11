"""fastnce in PyTorch's idiom: modules, autograd, ``torch.compile``, sparse gradients.

    >>> import fastnce.torch
    >>> criterion = fastnce.torch.NCELoss(num_classes=50_000, embedding_dim=128, num_sampled=64)
    >>> criterion(hidden, target).backward()

Nothing is linked against PyTorch, and nothing but this module imports it.
"""

from __future__ import annotations

try:
    import torch as _torch
except ImportError as error:
    raise ImportError("fastnce.torch needs PyTorch 2.6 or later, which is not installed: pip install torch") from error

if tuple(map(int, _torch.__version__.split(".")[:2])) < (2, 6):
    raise ImportError(f"fastnce.torch needs PyTorch 2.6 or later: this is {_torch.__version__}")

from fastnce.torch import (
    _ops,  # noqa: F401 (registers torch.ops.fastnce)
    optim,
)
from fastnce.torch._all_classes import rank_of_labels, sigmoid_loss, softmax_loss, top_k
from fastnce.torch._functional import (
    log_uniform_candidates,
    nce_loss,
    negative_sampling_loss,
    sampled_softmax_loss,
)
from fastnce.torch._in_batch import InBatchSoftmaxLoss, in_batch_softmax_loss
from fastnce.torch._modules import NCELoss, NegativeSamplingLoss, SampledSoftmaxLoss

__all__ = [
    "InBatchSoftmaxLoss",
    "NCELoss",
    "NegativeSamplingLoss",
    "SampledSoftmaxLoss",
    "in_batch_softmax_loss",
    "log_uniform_candidates",
    "nce_loss",
    "negative_sampling_loss",
    "optim",
    "rank_of_labels",
    "sampled_softmax_loss",
    "sigmoid_loss",
    "softmax_loss",
    "top_k",
]
