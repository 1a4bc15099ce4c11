"""Negative sampling: word2vec's objective, and gBCE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, SupportsIndex, Unpack, overload

import numpy as np
import numpy.typing as npt

from fastnce._losses._options import NegativeSamplingGradOptions, NegativeSamplingOptions
from fastnce._request import compute, with_gradients
from fastnce._seed import int64
from fastnce._types import (
    ArrayT,
    DLPackArray,
    FloatsLike,
    FloatT,
    Grads,
    IdsLike,
    LabelsLike,
    PartitionStrategy,
    Precision,
    Ragged,
    Table,
)
from fastnce.optim._base import Optimizer


@overload
def negative_sampling_loss(
    weights: Table,
    biases: Table | None,
    labels: LabelsLike,
    inputs: npt.NDArray[FloatT],
    sampled_candidates: IdsLike,
    num_true: SupportsIndex = ...,
    **options: Unpack[NegativeSamplingOptions],
) -> npt.NDArray[FloatT]: ...


@overload
def negative_sampling_loss(
    weights: Table,
    biases: Table | None,
    labels: LabelsLike,
    inputs: npt.NDArray[Any],
    sampled_candidates: IdsLike,
    num_true: SupportsIndex = ...,
    **options: Unpack[NegativeSamplingOptions],
) -> npt.NDArray[np.float32]: ...


@overload
def negative_sampling_loss(
    weights: Table,
    biases: Table | None,
    labels: LabelsLike,
    inputs: ArrayT,
    sampled_candidates: IdsLike,
    num_true: SupportsIndex = ...,
    **options: Unpack[NegativeSamplingOptions],
) -> ArrayT: ...


def negative_sampling_loss(
    weights: Table,
    biases: Table | None,
    labels: LabelsLike,
    inputs: DLPackArray,
    sampled_candidates: IdsLike,
    num_true: SupportsIndex = 1,
    *,
    positive_weight: FloatsLike = 1.0,
    negative_weight: FloatsLike = 1.0,
    remove_accidental_hits: bool | np.bool = False,
    partition_strategy: PartitionStrategy = "div",
    precision: Precision | None = None,
    padding: SupportsIndex | None = None,
    label_weights: FloatsLike | None = None,
    exclude: Ragged | None = None,
) -> Any:
    """Logistic loss of true classes against sampled ones, without correction for how they were sampled.

    ::

        u[b, t] = x[b] . w[y[b, t]] + c[y[b, t]]          x inputs, w weights, c biases, y labels
        v[b, s] = x[b] . w[z[s]]    + c[z[s]]             z sampled classes
        loss[b] = -positive_weight sum_t log sigmoid(u[b, t]) - negative_weight sum_s log sigmoid(-v[b, s])

    The objective of word2vec (Mikolov et al. 2013) if classes are sampled by a power of their frequency. S classes are
    shared by the batch: ``negative_weight = k / S`` counts them as k negatives of each example.
    ``positive_weight=gbce_weight(S, V, calibration)`` is gBCE (Petrov and Macdonald 2023).

    Arguments, errors and devices are those of :func:`nce_loss`.

    Args:
        sampled_candidates: ``[S]`` integer classes in [0, V), of any sampler or source. V is the number of rows of
            weights.
        positive_weight: Factor of the true classes' terms: a number, or one for each example, ``[B]``.
        negative_weight: The same of the sampled classes.
        remove_accidental_hits: Leave out sampled classes that are true classes of the example.

    Returns:
        ``[B]`` losses, float64 or float32, as the kind of array that ``inputs`` is.
    """
    return compute(
        {
            "weights": weights,
            "biases": biases,
            "labels": labels,
            "inputs": inputs,
            "num_true": num_true,
            "sampled_values": (sampled_candidates, None, None),
            "true_target": "one",
            "positive_weight": positive_weight,
            "negative_weight": negative_weight,
            "remove_accidental_hits": remove_accidental_hits,
            "partition_strategy": partition_strategy,
            "precision": precision,
            "padding": padding,
            "label_weights": label_weights,
            "exclude": exclude,
        }
    )[0]


@overload
def negative_sampling_loss_and_grad(
    weights: npt.NDArray[FloatT] | Sequence[npt.NDArray[FloatT]],
    biases: npt.NDArray[FloatT] | Sequence[npt.NDArray[FloatT]] | None,
    labels: LabelsLike,
    inputs: npt.NDArray[FloatT],
    sampled_candidates: IdsLike,
    num_true: SupportsIndex = ...,
    **options: Unpack[NegativeSamplingGradOptions],
) -> tuple[npt.NDArray[FloatT], Grads[npt.NDArray[np.int64], npt.NDArray[FloatT]]]: ...


@overload
def negative_sampling_loss_and_grad(
    weights: Table,
    biases: Table | None,
    labels: LabelsLike,
    inputs: npt.NDArray[Any],
    sampled_candidates: IdsLike,
    num_true: SupportsIndex = ...,
    **options: Unpack[NegativeSamplingGradOptions],
) -> tuple[npt.NDArray[np.floating[Any]], Grads[npt.NDArray[np.int64], npt.NDArray[Any]]]: ...


@overload
def negative_sampling_loss_and_grad(
    weights: Table,
    biases: Table | None,
    labels: LabelsLike,
    inputs: ArrayT,
    sampled_candidates: IdsLike,
    num_true: SupportsIndex = ...,
    **options: Unpack[NegativeSamplingGradOptions],
) -> tuple[ArrayT, Grads[ArrayT, ArrayT]]: ...


def negative_sampling_loss_and_grad(
    weights: Table,
    biases: Table | None,
    labels: LabelsLike,
    inputs: DLPackArray,
    sampled_candidates: IdsLike,
    num_true: SupportsIndex = 1,
    *,
    positive_weight: FloatsLike = 1.0,
    negative_weight: FloatsLike = 1.0,
    remove_accidental_hits: bool | np.bool = False,
    partition_strategy: PartitionStrategy = "div",
    precision: Precision | None = None,
    padding: SupportsIndex | None = None,
    label_weights: FloatsLike | None = None,
    exclude: Ragged | None = None,
    grad_loss: FloatsLike | None = None,
    grad_dtype: Literal["float32"] | None = None,
    pad_rows: bool | np.bool = False,
    optimizer: Optimizer | None = None,
) -> tuple[Any, Grads]:
    """:func:`negative_sampling_loss` and, in the same pass, the gradients of the sum of the losses.

    ``grad_loss``, ``grad_dtype``, ``pad_rows``, ``optimizer`` and what is returned are those of
    :func:`nce_loss_and_grad`.

    Returns:
        ``(loss [B], Grads(inputs=[B, D], rows=RowGrads(ids=int64 [n], weights=[n, D], biases=[n])))``.
    """
    return with_gradients(
        {
            "weights": weights,
            "biases": biases,
            "labels": labels,
            "inputs": inputs,
            "num_true": num_true,
            "sampled_values": (sampled_candidates, None, None),
            "true_target": "one",
            "positive_weight": positive_weight,
            "negative_weight": negative_weight,
            "remove_accidental_hits": remove_accidental_hits,
            "partition_strategy": partition_strategy,
            "precision": precision,
            "padding": padding,
            "label_weights": label_weights,
            "exclude": exclude,
            "grad_loss": grad_loss,
            "grad_dtype": grad_dtype,
            "pad_rows": pad_rows,
        },
        optimizer,
    )


def gbce_weight(num_sampled: SupportsIndex, num_classes: SupportsIndex, calibration: float) -> float:
    """The weight of positives in gBCE, which undoes the overconfidence that few negatives cause.

    ``beta = a (t (1 - 1 / a) + 1 / a) = t a + (1 - t)`` with ``a = S / (V - 1)``, the share of the negatives that are
    sampled, and ``t = calibration``. Source: Petrov and Macdonald, "gSASRec" (2023).

    Args:
        num_sampled: Sampled classes, S.
        num_classes: Number of classes, V, at least 2.
        calibration: From 0, which gives 1 (plain negative sampling), to 1, which gives ``a``.

    Returns:
        The weight, for ``positive_weight`` of :func:`negative_sampling_loss`.

    Raises:
        ValueError: Sizes or calibration out of range.
        TypeError: Sizes that are not integers.
    """
    sampled, classes = int64(num_sampled, "num_sampled"), int64(num_classes, "num_classes")
    if classes < 2:
        raise ValueError(f"num_classes = {classes}: expected at least 2")
    if sampled < 1:
        raise ValueError(f"num_sampled = {sampled}: expected at least 1")
    if not 0 <= calibration <= 1:
        raise ValueError(f"calibration = {calibration}: expected 0 to 1")
    share = sampled / (classes - 1)
    return calibration * share + (1 - calibration)
