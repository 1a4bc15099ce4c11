"""Softmax over all classes."""

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
def softmax_loss(
    weights: Table,
    biases: Table | None,
    labels: LabelsLike,
    inputs: npt.NDArray[FloatT],
    **options: Unpack[FullOptions],
) -> npt.NDArray[FloatT]: ...


@overload
def softmax_loss(
    weights: Table,
    biases: Table | None,
    labels: LabelsLike,
    inputs: npt.NDArray[Any],
    **options: Unpack[FullOptions],
) -> npt.NDArray[np.float32]: ...


@overload
def softmax_loss(
    weights: Table,
    biases: Table | None,
    labels: LabelsLike,
    inputs: ArrayT,
    **options: Unpack[FullOptions],
) -> ArrayT: ...


def softmax_loss(
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
    true_target: TrueTarget = "mean",
    progress: Progress | None = None,
) -> Any:
    """Cross entropy of the softmax over all V classes, per example.

    ::

        v[b, k] = x[b] . w[k] + c[k]                                x inputs, w weights, c biases, y labels
        loss[b] = -sum_t q[b, t] log softmax(v[b, :])[y[b, t]]      q = 1 / T, times the weight of the label

    The same in NumPy for one label each, with all ``[B, V]`` logits in memory, which this function never holds::

        v = x @ w.T + c
        loss = np.logaddexp.reduce(v, axis=1) - v[np.arange(len(y)), y]

    A label given twice counts twice in the target; each class stands once in the softmax. What a sampled loss estimates
    from some classes this computes from all: in time proportional to V.

    Ctrl-C on the main thread ends a call within about a tenth of a second. On a CUDA device nothing ends a call,
    ``progress`` is called once, at the end, and V is at most 2^22; ids are not checked (:mod:`fastnce.cuda`).

    Args:
        weights: ``[V, D]`` class embeddings, rows contiguous (any row stride), or a list of shards of rows. Never
            copied; may be a read-only memory map. float32, float64, float16 or bfloat16 (of the package ml_dtypes, or
            its bits as uint16).
        biases: ``[V]``, or a list of shards; ``None``: no biases, and no gradient of them.
        labels: ``[B]`` or ``[B, T]`` integer classes, or a :class:`Ragged` with a list for each example. An example
            without labels has a loss of 0 and no gradient.
        inputs: ``[B, D]`` input embeddings. If one of weights, biases and inputs is float64, all must be; float32,
            float16 and bfloat16 may be mixed and are computed in float32. There may be several axes in place of B,
            which labels and the loss then have, too.
        partition_strategy: How shards divide the classes: ``"div"`` (blocks) or ``"mod"`` (round robin).
        precision: Minimum accuracy of float32 matrix products: ``"highest"``, ``"high"`` or ``"medium"``. ``None`` uses
            the setting of :func:`set_precision`.
        padding: A label that stands for no class: T is then the number of the others. Any integer; often -1.
        label_weights: ``[B, T]``, or ``[n]`` beside a Ragged: multiply the targets. T counts labels, not weights.
        exclude: A :class:`Ragged` with a list of classes for each example that are left out of its softmax, unless they
            are its labels.
        true_target: The target of a label: ``"mean"`` is 1 / T, ``"one"`` is 1.
        progress: Called as ``progress(done, total)`` some 10 times a second, and once at the end with ``done ==
            total``. What it raises ends the call.

    Returns:
        ``[B]`` losses, float64 or float32, as the kind of array that ``inputs`` is.

    Raises:
        ValueError: Shapes that do not match, classes out of range.
        TypeError: Unsupported or mixed dtypes, arguments of the wrong kind.
    """
    return full_loss(
        {
            "weights": weights,
            "biases": biases,
            "labels": labels,
            "inputs": inputs,
            "family": "softmax",
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
def softmax_loss_and_grad(
    weights: npt.NDArray[FloatT] | Sequence[npt.NDArray[FloatT]],
    biases: npt.NDArray[FloatT] | Sequence[npt.NDArray[FloatT]] | None,
    labels: LabelsLike,
    inputs: npt.NDArray[FloatT],
    **options: Unpack[FullGradOptions],
) -> tuple[npt.NDArray[FloatT], DenseGrads[npt.NDArray[FloatT]]]: ...


@overload
def softmax_loss_and_grad(
    weights: Table,
    biases: Table | None,
    labels: LabelsLike,
    inputs: npt.NDArray[Any],
    **options: Unpack[FullGradOptions],
) -> tuple[npt.NDArray[np.floating[Any]], DenseGrads[npt.NDArray[Any]]]: ...


@overload
def softmax_loss_and_grad(
    weights: Table,
    biases: Table | None,
    labels: LabelsLike,
    inputs: ArrayT,
    **options: Unpack[FullGradOptions],
) -> tuple[ArrayT, DenseGrads[ArrayT]]: ...


def softmax_loss_and_grad(
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
    true_target: TrueTarget = "mean",
    grad_loss: FloatsLike | None = None,
    grad_dtype: Literal["float32"] | None = None,
    out: GradTables | None = None,
    progress: Progress | None = None,
) -> tuple[Any, DenseGrads]:
    """:func:`softmax_loss` and the gradients of the sum of the losses. Those of weights and biases are dense.

    A step of gradient descent that allocates nothing of the size of the tables::

        out = (np.empty_like(weights), np.empty_like(biases))
        loss, grads = fastnce.softmax_loss_and_grad(weights, biases, labels, inputs, out=out)
        weights -= rate * grads.weights

    Args:
        grad_loss: ``[B]`` upstream gradient of each example's loss. It multiplies the gradients, not the loss. ``None``
            means 1; ``1 / B`` gives the gradients of the mean.
        grad_dtype: ``"float32"`` returns gradients of float16 and bfloat16 arrays in float32; ``None`` rounds each once
            to the dtype of its array. Tables of 16 bits take memory for B D numbers more per thread, never for V D.
        out: ``(weights [V, D], biases [V])``, NumPy arrays in row-major order to hold the gradients of the tables;
            either may be ``None``. They are overwritten, and returned. On the CPU only.

    The other arguments and the errors are those of :func:`softmax_loss`. Where weights are in shards, their gradient is
    one array, in the order of the classes.

    Returns:
        ``(loss [B], DenseGrads(inputs=[B, D], weights=[V, D], biases=[V]))``.
    """
    return full_loss_and_grad(
        {
            "weights": weights,
            "biases": biases,
            "labels": labels,
            "inputs": inputs,
            "family": "softmax",
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
