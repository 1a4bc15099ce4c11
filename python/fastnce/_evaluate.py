"""How good a table of classes is, over all classes: the best ones, and the ranks of labels."""

from __future__ import annotations

from typing import Any, SupportsIndex, overload

import numpy as np
import numpy.typing as npt

from fastnce import _all_classes
from fastnce._types import (
    ArrayT,
    DLPackArray,
    FloatT,
    LabelsLike,
    PartitionStrategy,
    Precision,
    Progress,
    Ragged,
    Table,
)


@overload
def top_k(
    weights: Table,
    biases: Table | None,
    inputs: npt.NDArray[FloatT],
    k: SupportsIndex,
    exclude: Ragged | None = ...,
    *,
    partition_strategy: PartitionStrategy = ...,
    precision: Precision | None = ...,
    progress: Progress | None = ...,
) -> tuple[npt.NDArray[FloatT], npt.NDArray[np.int64]]: ...


@overload
def top_k(
    weights: Table,
    biases: Table | None,
    inputs: npt.NDArray[Any],
    k: SupportsIndex,
    exclude: Ragged | None = ...,
    *,
    partition_strategy: PartitionStrategy = ...,
    precision: Precision | None = ...,
    progress: Progress | None = ...,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]: ...


@overload
def top_k(
    weights: Table,
    biases: Table | None,
    inputs: ArrayT,
    k: SupportsIndex,
    exclude: Ragged | None = ...,
    *,
    partition_strategy: PartitionStrategy = ...,
    precision: Precision | None = ...,
    progress: Progress | None = ...,
) -> tuple[ArrayT, ArrayT]: ...


def top_k(
    weights: Table,
    biases: Table | None,
    inputs: DLPackArray,
    k: SupportsIndex,
    exclude: Ragged | None = None,
    *,
    partition_strategy: PartitionStrategy = "div",
    precision: Precision | None = "highest",
    progress: Progress | None = None,
) -> tuple[Any, Any]:
    """The k classes with the highest scores of each example, out of all V.

    The score of class k is ``x[b] . w[k] + c[k]``. The same in NumPy, with all ``[B, V]`` scores in memory, which this
    function never holds::

        scores = x @ w.T + c
        ids = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        scores = np.take_along_axis(scores, ids, axis=1)

    Beside its results it needs at most some 128 MiB of memory, or 32 k bytes for each thread. Ctrl-C on the main thread
    ends a call within about a tenth of a second. On a CUDA device nothing ends a call, ``progress`` is called once, at
    the end, and ids are not checked (:mod:`fastnce.cuda`).

    Args:
        weights: ``[V, D]`` class embeddings, rows contiguous (any row stride), or a list of shards of rows. Never
            copied; may be a read-only memory map. float32, float64, float16 or bfloat16 (of the package ml_dtypes, or
            its bits as uint16).
        biases: ``[V]``, or a list of shards; ``None``: no biases.
        inputs: ``[B, D]`` input embeddings. If one of weights, biases and inputs is float64, all must be; float32,
            float16 and bfloat16 may be mixed and are computed in float32. There may be several axes in place of B,
            which the results then have, too.
        k: How many.
        exclude: A :class:`Ragged` with a list of classes for each example that are left out: what a user has already
            bought, for instance.
        partition_strategy: How shards divide the classes: ``"div"`` (blocks) or ``"mod"`` (round robin).
        precision: Minimum accuracy of float32 matrix products: ``"highest"``, ``"high"`` or ``"medium"``. ``None`` uses
            the setting of :func:`set_precision`.
        progress: Called as ``progress(done, total)`` some 10 times a second, and once at the end with ``done ==
            total``. What it raises ends the call.

    Returns:
        ``(scores [B, k], ids int64 [B, k])``: scores fall, equal ones are in the order of their ids. Scores are float64
        or float32. A class whose score is NaN is never among them; where fewer than k classes are left, the rest are
        ``-inf`` with id -1.

    Raises:
        ValueError: Shapes that do not match, a negative k, excluded classes out of range.
        TypeError: Unsupported or mixed dtypes, arguments of the wrong kind.
    """
    return _all_classes.top_k(
        {
            "weights": weights,
            "biases": biases,
            "inputs": inputs,
            "exclude": exclude,
            "partition_strategy": partition_strategy,
            "precision": precision,
        },
        k,
        progress,
    )


@overload
def rank_of_labels(
    weights: Table,
    biases: Table | None,
    labels: LabelsLike,
    inputs: npt.NDArray[Any],
    exclude: Ragged | None = ...,
    *,
    padding: SupportsIndex | None = ...,
    partition_strategy: PartitionStrategy = ...,
    precision: Precision | None = ...,
    progress: Progress | None = ...,
) -> npt.NDArray[np.float64]: ...


@overload
def rank_of_labels(
    weights: Table,
    biases: Table | None,
    labels: LabelsLike,
    inputs: ArrayT,
    exclude: Ragged | None = ...,
    *,
    padding: SupportsIndex | None = ...,
    partition_strategy: PartitionStrategy = ...,
    precision: Precision | None = ...,
    progress: Progress | None = ...,
) -> ArrayT: ...


def rank_of_labels(
    weights: Table,
    biases: Table | None,
    labels: LabelsLike,
    inputs: DLPackArray,
    exclude: Ragged | None = None,
    *,
    padding: SupportsIndex | None = None,
    partition_strategy: PartitionStrategy = "div",
    precision: Precision | None = "highest",
    progress: Progress | None = None,
) -> Any:
    """The rank of each label among all V classes: 1 if no class scores as high.

    ::

        v[b, k]    = x[b] . w[k] + c[k]                                      x inputs, w weights, c biases, y labels
        rank[b, t] = 1 + #{k : v[b, k] > v[b, y]} + #{k : v[b, k] = v[b, y], k != y} / 2          with y = y[b, t]

    Ties count half, as if broken at random. Classes with identical rows and biases score the same, bit for bit,
    wherever they stand. The ``[B, V]`` scores are never in memory. :mod:`fastnce.metrics` turns ranks into recall, NDCG
    and the mean reciprocal rank.

    Arguments, devices and errors are those of :func:`top_k`, and:

    Args:
        labels: ``[B]`` or ``[B, T]`` integer classes, or a :class:`Ragged` with a list for each example.
        exclude: A :class:`Ragged` with a list of classes for each example that do not compete. A label is ranked even
            if it is in the list; the example's other labels compete unless they are.
        padding: A label that stands for no class. Any integer; often -1.

    Returns:
        float64 in the shape of the labels, ``[n]`` of a Ragged. NaN where the label is padding or its score is not
        finite.
    """
    return _all_classes.rank_of_labels(
        {
            "weights": weights,
            "biases": biases,
            "labels": labels,
            "inputs": inputs,
            "exclude": exclude,
            "padding": padding,
            "partition_strategy": partition_strategy,
            "precision": precision,
        },
        progress,
    )
