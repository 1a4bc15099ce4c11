"""Fused sampled losses over huge class tables: noise-contrastive estimation and its relatives, gradients, samplers.

    >>> import fastnce
    >>> loss, grads = fastnce.nce_loss_and_grad(weights, biases, labels, inputs, num_sampled, num_classes)

Names, argument order and semantics are those of ``tf.nn.nce_loss``, ``tf.nn.sampled_softmax_loss`` and TensorFlow's
candidate samplers.
"""

from fastnce import cuda, reference
from fastnce._config import config, get_num_threads, get_precision, set_num_threads, set_precision, show_config
from fastnce._losses import (
    gbce_weight,
    nce_loss,
    nce_loss_and_grad,
    negative_sampling_loss,
    negative_sampling_loss_and_grad,
    sampled_softmax_loss,
    sampled_softmax_loss_and_grad,
)
from fastnce._sampler import LogUniformSampler, compute_accidental_hits, log_uniform_candidate_sampler
from fastnce._types import Grads, RowGrads, SampledValues, SamplerState

__version__: str = config()["version"]

__all__ = [
    "Grads",
    "LogUniformSampler",
    "RowGrads",
    "SampledValues",
    "SamplerState",
    "__version__",
    "compute_accidental_hits",
    "config",
    "cuda",
    "gbce_weight",
    "get_num_threads",
    "get_precision",
    "log_uniform_candidate_sampler",
    "nce_loss",
    "nce_loss_and_grad",
    "negative_sampling_loss",
    "negative_sampling_loss_and_grad",
    "reference",
    "sampled_softmax_loss",
    "sampled_softmax_loss_and_grad",
    "set_num_threads",
    "set_precision",
    "show_config",
]
