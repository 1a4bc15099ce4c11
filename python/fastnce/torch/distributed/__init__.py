"""Losses over tables that are spread over the ranks of a ``torch.distributed`` process group."""

from fastnce.torch.distributed._checkpoint import consolidate_checkpoint, load_checkpoint, save_checkpoint
from fastnce.torch.distributed._even_batches import even_batches
from fastnce.torch.distributed._in_batch import in_batch_softmax_loss
from fastnce.torch.distributed._modules import ShardedNCELoss, ShardedNegativeSamplingLoss, ShardedSampledSoftmaxLoss

__all__ = [
    "ShardedNCELoss",
    "ShardedNegativeSamplingLoss",
    "ShardedSampledSoftmaxLoss",
    "consolidate_checkpoint",
    "even_batches",
    "in_batch_softmax_loss",
    "load_checkpoint",
    "save_checkpoint",
]
