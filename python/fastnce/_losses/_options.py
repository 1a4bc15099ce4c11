"""Keyword options of the losses, by name, for their overloads; the docstrings of the functions say what each means."""

from __future__ import annotations

from typing import Literal, SupportsIndex, TypedDict

import numpy as np

from fastnce._seed import Seed
from fastnce._types import FloatsLike, GradTables, PartitionStrategy, Precision, Progress, Ragged, TrueTarget
from fastnce.optim._base import Optimizer


class Options(TypedDict, total=False):
    """Of every loss."""

    partition_strategy: PartitionStrategy
    precision: Precision | None
    padding: SupportsIndex | None
    label_weights: FloatsLike | None
    exclude: Ragged | None


class GradOptions(TypedDict, total=False):
    """Of every loss that returns gradients, too."""

    grad_loss: FloatsLike | None
    grad_dtype: Literal["float32"] | None
    pad_rows: bool | np.bool
    optimizer: Optimizer | None


class SoftmaxOptions(Options, total=False):
    """Of ``sampled_softmax_loss``."""

    true_target: TrueTarget


class NceOptions(SoftmaxOptions, total=False):
    """Of ``nce_loss``."""

    seed: Seed


class NegativeSamplingOptions(Options, total=False):
    """Of ``negative_sampling_loss``."""

    positive_weight: FloatsLike
    negative_weight: FloatsLike
    remove_accidental_hits: bool | np.bool


class SoftmaxGradOptions(SoftmaxOptions, GradOptions, total=False):
    """Of ``sampled_softmax_loss_and_grad``."""


class NceGradOptions(NceOptions, GradOptions, total=False):
    """Of ``nce_loss_and_grad``."""


class NegativeSamplingGradOptions(NegativeSamplingOptions, GradOptions, total=False):
    """Of ``negative_sampling_loss_and_grad``."""


class FullOptions(SoftmaxOptions, total=False):
    """Of ``softmax_loss`` and ``sigmoid_loss``."""

    progress: Progress | None


class FullGradOptions(FullOptions, total=False):
    """Of ``softmax_loss_and_grad`` and ``sigmoid_loss_and_grad``."""

    grad_loss: FloatsLike | None
    grad_dtype: Literal["float32"] | None
    out: GradTables | None
