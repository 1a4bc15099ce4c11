"""Noise-contrastive estimation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, SupportsIndex, Unpack, overload

import numpy as np
import numpy.typing as npt

from fastnce._losses._options import NceGradOptions, NceOptions
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
def nce_loss(
    weights: Table,
    biases: Table | None,
    labels: LabelsLike,
    inputs: npt.NDArray[FloatT],
    num_sampled: SupportsIndex,
    num_classes: SupportsIndex,
    num_true: SupportsIndex = ...,
    sampled_values: SampledValuesLike | None = ...,
    remove_accidental_hits: bool | np.bool = ...,
    name: str | None = ...,
    **options: Unpack[NceOptions],
) -> npt.NDArray[FloatT]: ...


@overload
def nce_loss(
    weights: Table,
    biases: Table | None,
    labels: LabelsLike,
    inputs: npt.NDArray[Any],
    num_sampled: SupportsIndex,
    num_classes: SupportsIndex,
    num_true: SupportsIndex = ...,
    sampled_values: SampledValuesLike | None = ...,
    remove_accidental_hits: bool | np.bool = ...,
    name: str | None = ...,
    **options: Unpack[NceOptions],
) -> npt.NDArray[np.float32]: ...


@overload
def nce_loss(
    weights: Table,
    biases: Table | None,
    labels: LabelsLike,
    inputs: ArrayT,
    num_sampled: SupportsIndex,
    num_classes: SupportsIndex,
    num_true: SupportsIndex = ...,
    sampled_values: SampledValuesLike | None = ...,
    remove_accidental_hits: bool | np.bool = ...,
    name: str | None = ...,
    **options: Unpack[NceOptions],
) -> ArrayT: ...


def nce_loss(
    weights: Table,
    biases: Table | None,
    labels: LabelsLike,
    inputs: DLPackArray,
    num_sampled: SupportsIndex,
    num_classes: SupportsIndex,
    num_true: SupportsIndex = 1,
    sampled_values: SampledValuesLike | None = None,
    remove_accidental_hits: bool | np.bool = False,
    name: str | None = None,
    *,
    partition_strategy: PartitionStrategy = "div",
    seed: Seed = None,
    precision: Precision | None = None,
    padding: SupportsIndex | None = None,
    label_weights: FloatsLike | None = None,
    exclude: Ragged | None = None,
    true_target: TrueTarget = "mean",
) -> Any:
    """Noise-contrastive estimation loss per example: ``tf.nn.nce_loss``.

    ::

        u[b, t] = x[b] . w[y[b, t]] + c[y[b, t]] - log Q(y[b, t])        x inputs, w weights, c biases, y labels
        v[b, s] = x[b] . w[z[s]]    + c[z[s]]    - log Q(z[s])           z sampled classes, Q expected counts
        loss[b] = sum_t softplus(u[b, t]) - u[b, t] / T + sum_s softplus(v[b, s])

    The same in NumPy, with all ``[B, S]`` logits in memory, which this function never holds::

        u = np.vecdot(x[:, None], w[y]) + c[y] - np.log(true_count)
        v = x @ w[z].T + c[z] - np.log(sampled_count)
        loss = (np.logaddexp(0, u) - u / T).sum(1) + np.logaddexp(0, v).sum(1)

    Arrays are NumPy arrays or anything that exports ``__dlpack__``, on the CPU or on a CUDA device: all on the device
    of ``inputs``. On the CPU, Ctrl-C on the main thread ends a call within about a tenth of a second, unless it has
    begun to write its results.

    On CUDA work is queued on the current stream of the framework of ``inputs``; calls with arrays of JAX, of unknown or
    of several frameworks wait for it. Tables and inputs are float32, float16 or bfloat16. Expected counts,
    ``label_weights`` and ``grad_loss`` are float32, contiguous and not broadcast. Values are not checked: an example
    with a label out of range, or with an expected count that is not positive, gets a loss of NaN, and so does one whose
    list has wrong offsets; see :func:`fastnce.cuda.check`.

    Args:
        weights: ``[V, D]`` class embeddings, rows contiguous (any row stride), or a list of shards of rows. Never
            copied; may be a read-only memory map. At least ``num_classes`` rows. float32, float64, float16 or bfloat16
            (of the package ml_dtypes, or its bits as uint16).
        biases: ``[V]``, or a list of shards; ``None``: no biases, and no gradient of them.
        labels: ``[B, num_true]`` (or ``[B]`` if ``num_true`` is 1) integer classes in [0, num_classes), or a
            :class:`Ragged` with a list for each example, whose length is its T; ``num_true`` is not read then, and an
            example with an empty list has a loss of 0 and no gradient. Where classes are sampled log-uniformly, class 0
            should be the most frequent one, class 1 the next, and so on.
        inputs: ``[B, D]`` input embeddings; copied if rows are not contiguous. If one of weights, biases and inputs is
            float64, all must be; float32, float16 and bfloat16 may be mixed and are computed in float32. There may be
            several axes in place of B, which labels and the loss then have, too.
        num_sampled: Classes to sample, S.
        num_classes: Number of classes, V.
        num_true: True classes per example, T. Each has target 1 / T, as in TensorFlow.
        sampled_values: ``(sampled_candidates [S], true_expected_count [B, T], sampled_expected_count [S])`` from a
            candidate sampler; ``None`` samples log-uniformly and uniquely. Both counts may be ``None``: no log Q.
            Candidates ``[G, S]``, and counts like them, are of groups: group g serves the examples
            ``[g B / G, (g + 1) B / G)``, with G = B each its own. The counts of ragged labels are ``[n]``.
        remove_accidental_hits: Leave out sampled classes that are true classes of the example.
        name: Ignored.
        partition_strategy: How shards divide the classes: ``"div"`` (blocks) or ``"mod"`` (round robin).
        seed: Seed for sampling; see :func:`log_uniform_candidate_sampler`.
        precision: Minimum accuracy of float32 matrix products: ``"highest"``, ``"high"`` or ``"medium"``. ``None`` uses
            the setting of :func:`set_precision`.
        padding: A label that stands for no class: T is then the number of the others, and an example without others
            has a loss of 0 and no gradient. Any integer; often -1.
        label_weights: ``[B, num_true]`` (``[B]`` if that is 1), or ``[n]`` of ragged labels: factor of the terms of
            each label. Not read at padding; has no gradient.
        exclude: A :class:`Ragged` with a list of classes for each example: sampled ones among them are left out, as if
            they were hits. All items that a user knows, for instance.
        true_target: The target of a true class: ``"mean"`` is 1 / T, as in TensorFlow; ``"one"`` is 1, as published.

    Returns:
        ``[B]`` losses, float64 or float32, as the kind of array that ``inputs`` is.

    Raises:
        ValueError: Shapes that do not match, classes out of range (on the CPU), arrays on another device than
            ``inputs``, a CUDA device that cannot be used, tensors whose gradient would be lost (PyTorch's
            ``requires_grad``, those that a TensorFlow tape watches).
        TypeError: Unsupported or mixed dtypes, arguments of the wrong kind, a ``tf.Variable``, tensors being traced.
        RuntimeError: CUDA reports an error.
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
def nce_loss_and_grad(
    weights: npt.NDArray[FloatT] | Sequence[npt.NDArray[FloatT]],
    biases: npt.NDArray[FloatT] | Sequence[npt.NDArray[FloatT]] | None,
    labels: LabelsLike,
    inputs: npt.NDArray[FloatT],
    num_sampled: SupportsIndex,
    num_classes: SupportsIndex,
    num_true: SupportsIndex = ...,
    sampled_values: SampledValuesLike | None = ...,
    remove_accidental_hits: bool | np.bool = ...,
    name: str | None = ...,
    **options: Unpack[NceGradOptions],
) -> tuple[npt.NDArray[FloatT], Grads[npt.NDArray[np.int64], npt.NDArray[FloatT]]]: ...


@overload
def nce_loss_and_grad(
    weights: Table,
    biases: Table | None,
    labels: LabelsLike,
    inputs: npt.NDArray[Any],
    num_sampled: SupportsIndex,
    num_classes: SupportsIndex,
    num_true: SupportsIndex = ...,
    sampled_values: SampledValuesLike | None = ...,
    remove_accidental_hits: bool | np.bool = ...,
    name: str | None = ...,
    **options: Unpack[NceGradOptions],
) -> tuple[npt.NDArray[np.floating[Any]], Grads[npt.NDArray[np.int64], npt.NDArray[Any]]]: ...


@overload
def nce_loss_and_grad(
    weights: Table,
    biases: Table | None,
    labels: LabelsLike,
    inputs: ArrayT,
    num_sampled: SupportsIndex,
    num_classes: SupportsIndex,
    num_true: SupportsIndex = ...,
    sampled_values: SampledValuesLike | None = ...,
    remove_accidental_hits: bool | np.bool = ...,
    name: str | None = ...,
    **options: Unpack[NceGradOptions],
) -> tuple[ArrayT, Grads[ArrayT, ArrayT]]: ...


def nce_loss_and_grad(
    weights: Table,
    biases: Table | None,
    labels: LabelsLike,
    inputs: DLPackArray,
    num_sampled: SupportsIndex,
    num_classes: SupportsIndex,
    num_true: SupportsIndex = 1,
    sampled_values: SampledValuesLike | None = None,
    remove_accidental_hits: bool | np.bool = False,
    name: str | None = None,
    *,
    partition_strategy: PartitionStrategy = "div",
    seed: Seed = None,
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
    """:func:`nce_loss` and, in the same pass, the gradients of the sum of the losses.

    Gradients of weights and biases are sparse: the rows of the classes that occur in ``labels`` or among the samples,
    each once, ascending. A step of stochastic gradient descent is ::

        loss, grads = fastnce.nce_loss_and_grad(weights, biases, labels, inputs, num_sampled, num_classes)
        weights[grads.rows.ids] -= rate * grads.rows.weights
        biases[grads.rows.ids] -= rate * grads.rows.biases

    Args:
        grad_loss: ``[B]`` upstream gradient of each example's loss. It multiplies the gradients, not the loss. ``None``
            means 1; ``1 / B`` gives the gradients of the mean.
        grad_dtype: ``"float32"`` returns gradients of float16 and bfloat16 arrays in float32; ``None`` rounds each once
            to the dtype of its array.
        pad_rows: Return ``B * num_true + num_sampled`` rows instead of n. Rows left over repeat the last id with zero
            gradients: ``index_add_`` is correct with them; ``weights[ids] -= ...`` is not, because it keeps one row of
            a repeated id. On CUDA a call without padding waits for n; with padding it never synchronises, and a CUDA
            graph can capture it.
        optimizer: An optimizer of these tables, which updates the rows in place of handing their gradients back; see
            :func:`train_step`.

    The other arguments and the errors are those of :func:`nce_loss`.

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
