"""Sampled softmax."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, SupportsIndex, Unpack, overload

import numpy as np
import numpy.typing as npt

from fastnce._losses._options import SoftmaxGradOptions, SoftmaxOptions
from fastnce._request import candidates, compute, with_gradients
from fastnce._seed import Seed
from fastnce._types import (
    ArrayT,
    DLPackArray,
    FloatsLike,
    FloatT,
    Grads,
    LabelsLike,
    PartitionStrategy,
    Precision,
    Ragged,
    SampledValuesLike,
    Table,
    TrueTarget,
)
from fastnce.optim._base import Optimizer


@overload
def sampled_softmax_loss(
    weights: Table,
    biases: Table | None,
    labels: LabelsLike,
    inputs: npt.NDArray[FloatT],
    num_sampled: SupportsIndex,
    num_classes: SupportsIndex,
    num_true: SupportsIndex = ...,
    sampled_values: SampledValuesLike | None = ...,
    remove_accidental_hits: bool | np.bool = ...,
    seed: Seed = ...,
    name: str | None = ...,
    **options: Unpack[SoftmaxOptions],
) -> npt.NDArray[FloatT]: ...


@overload
def sampled_softmax_loss(
    weights: Table,
    biases: Table | None,
    labels: LabelsLike,
    inputs: npt.NDArray[Any],
    num_sampled: SupportsIndex,
    num_classes: SupportsIndex,
    num_true: SupportsIndex = ...,
    sampled_values: SampledValuesLike | None = ...,
    remove_accidental_hits: bool | np.bool = ...,
    seed: Seed = ...,
    name: str | None = ...,
    **options: Unpack[SoftmaxOptions],
) -> npt.NDArray[np.float32]: ...


@overload
def sampled_softmax_loss(
    weights: Table,
    biases: Table | None,
    labels: LabelsLike,
    inputs: ArrayT,
    num_sampled: SupportsIndex,
    num_classes: SupportsIndex,
    num_true: SupportsIndex = ...,
    sampled_values: SampledValuesLike | None = ...,
    remove_accidental_hits: bool | np.bool = ...,
    seed: Seed = ...,
    name: str | None = ...,
    **options: Unpack[SoftmaxOptions],
) -> ArrayT: ...


def sampled_softmax_loss(
    weights: Table,
    biases: Table | None,
    labels: LabelsLike,
    inputs: DLPackArray,
    num_sampled: SupportsIndex,
    num_classes: SupportsIndex,
    num_true: SupportsIndex = 1,
    sampled_values: SampledValuesLike | None = None,
    remove_accidental_hits: bool | np.bool = True,
    seed: Seed = None,
    name: str | None = None,
    *,
    partition_strategy: PartitionStrategy = "div",
    precision: Precision | None = None,
    padding: SupportsIndex | None = None,
    label_weights: FloatsLike | None = None,
    exclude: Ragged | None = None,
    true_target: TrueTarget = "mean",
) -> Any:
    """Cross entropy of the softmax over true and sampled classes, per example: ``tf.nn.sampled_softmax_loss``.

    ::

        u[b, t] = x[b] . w[y[b, t]] + c[y[b, t]] - log Q(y[b, t])        x inputs, w weights, c biases, y labels
        v[b, s] = x[b] . w[z[s]]    + c[z[s]]    - log Q(z[s])           z sampled classes, Q expected counts
        loss[b] = -mean_t log(exp(u[b, t]) / (sum_i exp(u[b, i]) + sum_s exp(v[b, s])))

    The same in NumPy, with all ``[B, S]`` logits in memory, which this function never holds::

        u = np.vecdot(x[:, None], w[y]) + c[y] - np.log(true_count)
        v = x @ w[z].T + c[z] - np.log(sampled_count)
        loss = np.logaddexp.reduce(np.hstack([u, v]), axis=1) - u.mean(axis=1)

    It estimates the full softmax from below: the more classes are sampled, the closer. Sampled classes that are true
    classes of the example are left out unless ``remove_accidental_hits`` is false; each then stands twice in the sum.
    The T true classes of an example stand in each other's denominators.

    Arguments, errors and devices are those of :func:`nce_loss`.

    Args:
        remove_accidental_hits: Leave out sampled classes that are true classes of the example, every duplicate.
        seed: Seed for sampling; see :func:`log_uniform_candidate_sampler`.
        true_target: The target of a true class: ``"mean"`` is 1 / T, as in TensorFlow; ``"one"`` is 1.

    Returns:
        ``[B]`` losses, float64 or float32, as the kind of array that ``inputs`` is.
    """
    return compute(
        {
            "weights": weights,
            "biases": biases,
            "labels": labels,
            "inputs": inputs,
            "num_sampled": num_sampled,
            "num_classes": num_classes,
            "num_true": num_true,
            "family": "softmax",
            "remove_accidental_hits": remove_accidental_hits,
            "partition_strategy": partition_strategy,
            "precision": precision,
            "padding": padding,
            "label_weights": label_weights,
            "exclude": exclude,
            "true_target": true_target,
            **candidates(sampled_values, seed),
        }
    )[0]


@overload
def sampled_softmax_loss_and_grad(
    weights: npt.NDArray[FloatT] | Sequence[npt.NDArray[FloatT]],
    biases: npt.NDArray[FloatT] | Sequence[npt.NDArray[FloatT]] | None,
    labels: LabelsLike,
    inputs: npt.NDArray[FloatT],
    num_sampled: SupportsIndex,
    num_classes: SupportsIndex,
    num_true: SupportsIndex = ...,
    sampled_values: SampledValuesLike | None = ...,
    remove_accidental_hits: bool | np.bool = ...,
    seed: Seed = ...,
    name: str | None = ...,
    **options: Unpack[SoftmaxGradOptions],
) -> tuple[npt.NDArray[FloatT], Grads[npt.NDArray[np.int64], npt.NDArray[FloatT]]]: ...


@overload
def sampled_softmax_loss_and_grad(
    weights: Table,
    biases: Table | None,
    labels: LabelsLike,
    inputs: npt.NDArray[Any],
    num_sampled: SupportsIndex,
    num_classes: SupportsIndex,
    num_true: SupportsIndex = ...,
    sampled_values: SampledValuesLike | None = ...,
    remove_accidental_hits: bool | np.bool = ...,
    seed: Seed = ...,
    name: str | None = ...,
    **options: Unpack[SoftmaxGradOptions],
) -> tuple[npt.NDArray[np.floating[Any]], Grads[npt.NDArray[np.int64], npt.NDArray[Any]]]: ...


@overload
def sampled_softmax_loss_and_grad(
    weights: Table,
    biases: Table | None,
    labels: LabelsLike,
    inputs: ArrayT,
    num_sampled: SupportsIndex,
    num_classes: SupportsIndex,
    num_true: SupportsIndex = ...,
    sampled_values: SampledValuesLike | None = ...,
    remove_accidental_hits: bool | np.bool = ...,
    seed: Seed = ...,
    name: str | None = ...,
    **options: Unpack[SoftmaxGradOptions],
) -> tuple[ArrayT, Grads[ArrayT, ArrayT]]: ...


def sampled_softmax_loss_and_grad(
    weights: Table,
    biases: Table | None,
    labels: LabelsLike,
    inputs: DLPackArray,
    num_sampled: SupportsIndex,
    num_classes: SupportsIndex,
    num_true: SupportsIndex = 1,
    sampled_values: SampledValuesLike | None = None,
    remove_accidental_hits: bool | np.bool = True,
    seed: Seed = None,
    name: str | None = None,
    *,
    partition_strategy: PartitionStrategy = "div",
    precision: Precision | None = None,
    padding: SupportsIndex | None = None,
    label_weights: FloatsLike | None = None,
    exclude: Ragged | None = None,
    true_target: TrueTarget = "mean",
    grad_loss: FloatsLike | None = None,
    grad_dtype: Literal["float32"] | None = None,
    pad_rows: bool | np.bool = False,
    optimizer: Optimizer | None = None,
) -> tuple[Any, Grads]:
    """:func:`sampled_softmax_loss` and, in the same pass, the gradients of the sum of the losses.

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
            "num_sampled": num_sampled,
            "num_classes": num_classes,
            "num_true": num_true,
            "family": "softmax",
            "remove_accidental_hits": remove_accidental_hits,
            "partition_strategy": partition_strategy,
            "precision": precision,
            "padding": padding,
            "label_weights": label_weights,
            "exclude": exclude,
            "true_target": true_target,
            "grad_loss": grad_loss,
            "grad_dtype": grad_dtype,
            "pad_rows": pad_rows,
            **candidates(sampled_values, seed),
        },
        optimizer,
    )
