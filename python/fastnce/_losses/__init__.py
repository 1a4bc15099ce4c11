"""The fused sampled losses, a file for each."""

from fastnce._losses._nce import nce_loss, nce_loss_and_grad
from fastnce._losses._negative_sampling import gbce_weight, negative_sampling_loss, negative_sampling_loss_and_grad
from fastnce._losses._sampled_softmax import sampled_softmax_loss, sampled_softmax_loss_and_grad

__all__ = [
    "gbce_weight",
    "nce_loss",
    "nce_loss_and_grad",
    "negative_sampling_loss",
    "negative_sampling_loss_and_grad",
    "sampled_softmax_loss",
    "sampled_softmax_loss_and_grad",
]
