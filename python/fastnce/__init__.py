"""Fused sampled losses over huge class tables: noise-contrastive estimation and its relatives, gradients, samplers.

    >>> import fastnce
    >>> loss, grads = fastnce.nce_loss_and_grad(weights, biases, labels, inputs, num_sampled, num_classes)

Names, argument order and semantics are those of ``tf.nn.nce_loss``, ``tf.nn.sampled_softmax_loss`` and TensorFlow's
candidate samplers.
"""

from fastnce import cuda, metrics, optim, reference
from fastnce._config import config, get_num_threads, get_precision, set_num_threads, set_precision, show_config
from fastnce._evaluate import rank_of_labels, top_k
from fastnce._frequency import FrequencyEstimator, FrequencyState
from fastnce._losses._in_batch import in_batch_softmax_loss, in_batch_softmax_loss_and_grad
from fastnce._losses._nce import nce_loss, nce_loss_and_grad
from fastnce._losses._negative_sampling import gbce_weight, negative_sampling_loss, negative_sampling_loss_and_grad
from fastnce._losses._sampled_softmax import sampled_softmax_loss, sampled_softmax_loss_and_grad
from fastnce._losses._sigmoid import sigmoid_loss, sigmoid_loss_and_grad
from fastnce._losses._softmax import softmax_loss, softmax_loss_and_grad
from fastnce._samplers._all import all_candidate_sampler
from fastnce._samplers._hits import compute_accidental_hits
from fastnce._samplers._learned_unigram import LearnedUnigramSampler, learned_unigram_candidate_sampler
from fastnce._samplers._log_uniform import LogUniformSampler, log_uniform_candidate_sampler
from fastnce._samplers._mixed import MixedSampler
from fastnce._samplers._uniform import UniformSampler, uniform_candidate_sampler
from fastnce._samplers._unigram import UnigramSampler, fixed_unigram_candidate_sampler
from fastnce._train_step import train_step
from fastnce._types import DenseGrads, Grads, LearnedSamplerState, Ragged, RowGrads, SampledValues, SamplerState

__version__: str = config()["version"]

__all__ = [
    "DenseGrads",
    "FrequencyEstimator",
    "FrequencyState",
    "Grads",
    "LearnedSamplerState",
    "LearnedUnigramSampler",
    "LogUniformSampler",
    "MixedSampler",
    "Ragged",
    "RowGrads",
    "SampledValues",
    "SamplerState",
    "UniformSampler",
    "UnigramSampler",
    "__version__",
    "all_candidate_sampler",
    "compute_accidental_hits",
    "config",
    "cuda",
    "fixed_unigram_candidate_sampler",
    "gbce_weight",
    "get_num_threads",
    "get_precision",
    "in_batch_softmax_loss",
    "in_batch_softmax_loss_and_grad",
    "learned_unigram_candidate_sampler",
    "log_uniform_candidate_sampler",
    "metrics",
    "nce_loss",
    "nce_loss_and_grad",
    "negative_sampling_loss",
    "negative_sampling_loss_and_grad",
    "optim",
    "rank_of_labels",
    "reference",
    "sampled_softmax_loss",
    "sampled_softmax_loss_and_grad",
    "set_num_threads",
    "set_precision",
    "show_config",
    "sigmoid_loss",
    "sigmoid_loss_and_grad",
    "softmax_loss",
    "softmax_loss_and_grad",
    "top_k",
    "train_step",
    "uniform_candidate_sampler",
]
