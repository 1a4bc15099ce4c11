"""Sigmoid over all classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, SupportsIndex, Unpack, overload

import numpy as np
import numpy.typing as npt

from fastnce._all_classes import full_loss, full_loss_and_grad
from fastnce._losses._options import FullGradOptions, FullOptions
from fastnce._types import (
    ArrayT,
    DenseGrads,
    DLPackArray,
    FloatsLike,
    FloatT,
    GradTables,
    LabelsLike,
    PartitionStrategy,
    Precision,
    Progress,
    Ragged,
    Table,
    TrueTarget,
)


@overload
def sigmoid_loss(
    weights: Table,
    biases: Table | None,
    labels: LabelsLike,
    inputs: npt.NDArray[FloatT],
    **options: Unpack[FullOptions],
) -> npt.NDArray[FloatT]: ...


@overload
def sigmoid_loss(
    weights: Table,
    biases: Table | None,
    labels: LabelsLike,
    inputs: npt.NDArray[Any],
    **options: Unpack[FullOptions],
) -> npt.NDArray[np.float32]: ...


@overload
def sigmoid_loss(
    weights: Table,
    biases: Table | None,
    labels: LabelsLike,
    inputs: ArrayT,
    **options: Unpack[FullOptions],
) -> ArrayT: ...


def sigmoid_loss(
    weights: Table,
    biases: Table | None,
    labels: LabelsLike,
    inputs: DLPackArray,
    *,
    partition_strategy: PartitionStrategy = "div",
    precision: Precision | None = None,
    padding: SupportsIndex | None = None,
    label_weights: FloatsLike | None = None,
    exclude: Ragged | None = None,
    true_target: TrueTarget = "one",
    progress: Progress | None = None,
) -> Any:
    """Binary cross entropy of the sigmoid of all V classes, summed up per example.

    ::

        v[b, k] = x[b] . w[k] + c[k]                                             x inputs, w weights, c biases, y labels
        loss[b] = sum_k softplus(v[b, k]) - sum_t q[b, t] v[b, y[b, t]]          q = 1, times the weight of the label

    The same in NumPy, with all ``[B, V]`` logits in memory, which this function never holds; targets are multi-hot::

        v = x @ w.T + c
        loss = (np.logaddexp(0, v) - targets * v).sum(axis=1)

    A label given twice counts twice in the target; each class stands once in the first sum.

    Arguments, devices and errors are those of :func:`softmax_loss`, and:

    Args:
        true_target: The target of a label: ``"one"`` is 1, ``"mean"`` is 1 / T.
        exclude: A :class:`Ragged` with a list of classes for each example that are left out of its sums, unless they
            are its labels.

    Returns:
        ``[B]`` losses, float64 or float32, as the kind of array that ``inputs`` is.
    """
    return full_loss(
        {
            "weights": weights,
            "biases": biases,
            "labels": labels,
            "inputs": inputs,
            "family": "logistic",
            "partition_strategy": partition_strategy,
            "precision": precision,
            "padding": padding,
            "label_weights": label_weights,
            "exclude": exclude,
            "true_target": true_target,
        },
        progress,
    )


@overload
def sigmoid_loss_and_grad(
    weights: npt.NDArray[FloatT] | Sequence[npt.NDArray[FloatT]],
    biases: npt.NDArray[FloatT] | Sequence[npt.NDArray[FloatT]] | None,
    labels: LabelsLike,
    inputs: npt.NDArray[FloatT],
    **options: Unpack[FullGradOptions],
) -> tuple[npt.NDArray[FloatT], DenseGrads[npt.NDArray[FloatT]]]: ...


@overload
def sigmoid_loss_and_grad(
    weights: Table,
    biases: Table | None,
    labels: LabelsLike,
    inputs: npt.NDArray[Any],
    **options: Unpack[FullGradOptions],
) -> tuple[npt.NDArray[np.floating[Any]], DenseGrads[npt.NDArray[Any]]]: ...


@overload
def sigmoid_loss_and_grad(
    weights: Table,
    biases: Table | None,
    labels: LabelsLike,
    inputs: ArrayT,
    **options: Unpack[FullGradOptions],
) -> tuple[ArrayT, DenseGrads[ArrayT]]: ...


def sigmoid_loss_and_grad(
    weights: Table,
    biases: Table | None,
    labels: LabelsLike,
    inputs: DLPackArray,
    *,
    partition_strategy: PartitionStrategy = "div",
    precision: Precision | None = None,
    padding: SupportsIndex | None = None,
    label_weights: FloatsLike | None = None,
    exclude: Ragged | None = None,
    true_target: TrueTarget = "one",
    grad_loss: FloatsLike | None = None,
    grad_dtype: Literal["float32"] | None = None,
    out: GradTables | None = None,
    progress: Progress | None = None,
) -> tuple[Any, DenseGrads]:
    """:func:`sigmoid_loss` and, in the same pass, the gradients of the sum of the losses.

    ``grad_loss``, ``grad_dtype``, ``out`` and what is returned are those of :func:`softmax_loss_and_grad`.

    Returns:
        ``(loss [B], DenseGrads(inputs=[B, D], weights=[V, D], biases=[V]))``.
    """
    return full_loss_and_grad(
        {
            "weights": weights,
            "biases": biases,
            "labels": labels,
            "inputs": inputs,
            "family": "logistic",
            "partition_strategy": partition_strategy,
            "precision": precision,
            "padding": padding,
            "label_weights": label_weights,
            "exclude": exclude,
            "true_target": true_target,
            "grad_loss": grad_loss,
            "grad_dtype": grad_dtype,
        },
        out,
        progress,
    )
