"""Losses over tables that are spread over the ranks of a ``torch.distributed`` process group."""

from fastnce.torch.distributed._all_classes import rank_of_labels, sigmoid_loss, softmax_loss, top_k
from fastnce.torch.distributed._checkpoint import consolidate_checkpoint, load_checkpoint, save_checkpoint
from fastnce.torch.distributed._even_batches import even_batches
from fastnce.torch.distributed._functional import nce_loss, negative_sampling_loss, sampled_softmax_loss
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
    "nce_loss",
    "negative_sampling_loss",
    "rank_of_labels",
    "sampled_softmax_loss",
    "save_checkpoint",
    "sigmoid_loss",
    "softmax_loss",
    "top_k",
]
