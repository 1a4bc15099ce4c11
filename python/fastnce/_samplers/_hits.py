"""Accidental hits: sampled classes that are true classes of an example."""

from __future__ import annotations

from typing import Any, SupportsIndex, overload

import numpy as np
import numpy.typing as npt

from fastnce import _core
from fastnce._arrays import like
from fastnce._seed import Seed
from fastnce._types import ArrayT, IdLists, IdsLike


@overload
def compute_accidental_hits(
    true_classes: npt.NDArray[Any] | IdLists,
    sampled_candidates: IdsLike,
    num_true: SupportsIndex,
    seed: Seed = ...,
    name: str | None = ...,
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64], npt.NDArray[np.float32]]: ...


@overload
def compute_accidental_hits(
    true_classes: ArrayT,
    sampled_candidates: IdsLike,
    num_true: SupportsIndex,
    seed: Seed = ...,
    name: str | None = ...,
) -> tuple[ArrayT, ArrayT, ArrayT]: ...


def compute_accidental_hits(
    true_classes: IdsLike,
    sampled_candidates: IdsLike,
    num_true: SupportsIndex,
    seed: Seed = None,
    name: str | None = None,
) -> tuple[Any, Any, Any]:
    """Find the sampled classes that are true classes of an example: ``tf.nn.compute_accidental_hits``.

    Where a class was sampled several times every position is reported; TensorFlow reports the last one only.

    Args:
        true_classes: ``[B, num_true]`` (or ``[B]`` if ``num_true`` is 1) integer classes.
        sampled_candidates: ``[S]`` integer classes.
        num_true: True classes per example, T.
        seed: Ignored, as in TensorFlow.
        name: Ignored.

    Returns:
        ``(indices int32 [H], ids int64 [H], weights float32 [H])``: hit h is position ``ids[h]`` of the samples in
        example ``indices[h]``, by example, then true column, then position; every weight is ``-FLT_MAX``.

    Raises:
        ValueError: Wrong rank or shape, arrays on a CUDA device: there the loss takes ``remove_accidental_hits``.
        TypeError: Classes that are not integers.
    """
    hits = _core.accidental_hits(true_classes, sampled_candidates, num_true)
    indices, ids, weights = map(like(true_classes), hits)
    return indices, ids, weights
