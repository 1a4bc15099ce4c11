"""The definition of fastnce: every operation in plain float64 NumPy, slow and readable.

This package is the oracle of the test suite and the page to read when a formula is in doubt. It trades speed
and memory for being obvious (the ``[B, S]`` logits are stored whole, unique sampling walks one draw at a
time) and shares no code with the compiled library.

Shape letters: B examples, D width, V classes, S sampled classes, T true classes per example, n true classes of all
examples, G groups of examples that share their sampled classes.

The semantics are those of TensorFlow 2.21: ``tf.nn.nce_loss``, ``tf.nn.sampled_softmax_loss``,
TensorFlow's candidate samplers (kernels ``range_sampler.cc`` and ``candidate_sampler_ops.cc``) and
``tf.nn.compute_accidental_hits``, with two departures: every duplicate of an accidental hit counts, and samplers of
2**21 ids or more do not repeat themselves.
"""

from __future__ import annotations

from fastnce._types import DenseGrads, Grads, Ragged, RowGrads, SampledValues
from fastnce.reference._distributions import (
    Distribution,
    InverseCdf,
    LearnedUnigram,
    LogUniform,
    Uniform,
    Unigram,
    log_uniform_draws,
    log_uniform_probability,
    unigram_weights,
)
from fastnce.reference._evaluate import rank_of_labels, top_k
from fastnce.reference._full import sigmoid_loss_and_grad, softmax_loss_and_grad
from fastnce.reference._functions import sigmoid, softplus
from fastnce.reference._in_batch import in_batch_softmax_loss_and_grad
from fastnce.reference._losses import (
    gbce_weight,
    nce_loss_and_grad,
    negative_sampling_loss_and_grad,
    sampled_loss_and_grad,
    sampled_softmax_loss_and_grad,
)
from fastnce.reference._optimizers import adagrad, adam, momentum, rowwise_adagrad, sgd, update_rows
from fastnce.reference._random import Seed, philox4x32, seed_pair, skip, stream_start
from fastnce.reference._samplers import (
    all_candidate_sampler,
    candidates,
    compute_accidental_hits,
    expected_count,
    fixed_unigram_candidate_sampler,
    learned_unigram_candidate_sampler,
    log_uniform_candidate_sampler,
    uniform_candidate_sampler,
)
from fastnce.reference._skip_gram import SkipGram, SkipGramResult, train_skip_gram
from fastnce.reference._tables import Table, gather

__all__ = [
    "DenseGrads",
    "Distribution",
    "Grads",
    "InverseCdf",
    "LearnedUnigram",
    "LogUniform",
    "Ragged",
    "RowGrads",
    "SampledValues",
    "Seed",
    "SkipGram",
    "SkipGramResult",
    "Table",
    "Uniform",
    "Unigram",
    "adagrad",
    "adam",
    "all_candidate_sampler",
    "candidates",
    "compute_accidental_hits",
    "expected_count",
    "fixed_unigram_candidate_sampler",
    "gather",
    "gbce_weight",
    "in_batch_softmax_loss_and_grad",
    "learned_unigram_candidate_sampler",
    "log_uniform_candidate_sampler",
    "log_uniform_draws",
    "log_uniform_probability",
    "momentum",
    "nce_loss_and_grad",
    "negative_sampling_loss_and_grad",
    "philox4x32",
    "rank_of_labels",
    "rowwise_adagrad",
    "sampled_loss_and_grad",
    "sampled_softmax_loss_and_grad",
    "seed_pair",
    "sgd",
    "sigmoid",
    "sigmoid_loss_and_grad",
    "skip",
    "softmax_loss_and_grad",
    "softplus",
    "stream_start",
    "top_k",
    "train_skip_gram",
    "uniform_candidate_sampler",
    "unigram_weights",
    "update_rows",
]
