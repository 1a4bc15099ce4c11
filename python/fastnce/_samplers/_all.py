"""All classes, without sampling."""

from __future__ import annotations

from typing import Any, SupportsIndex, overload

import numpy as np
import numpy.typing as npt

from fastnce._samplers._base import first_call
from fastnce._seed import Seed
from fastnce._types import ArrayT, IdLists, IdsLike, NumpySamples, SampledValues


@overload
def all_candidate_sampler(
    true_classes: npt.NDArray[Any] | IdLists,
    num_true: SupportsIndex,
    num_sampled: SupportsIndex,
    unique: bool | np.bool,
    seed: Seed = ...,
    name: str | None = ...,
) -> NumpySamples: ...


@overload
def all_candidate_sampler(
    true_classes: ArrayT,
    num_true: SupportsIndex,
    num_sampled: SupportsIndex,
    unique: bool | np.bool,
    seed: Seed = ...,
    name: str | None = ...,
) -> SampledValues[ArrayT, ArrayT]: ...


def all_candidate_sampler(
    true_classes: IdsLike,
    num_true: SupportsIndex,
    num_sampled: SupportsIndex,
    unique: bool | np.bool,
    seed: Seed = None,
    name: str | None = None,
) -> SampledValues:
    """Return all classes as candidates, for tests: ``tf.random.all_candidate_sampler``.

    The candidates are 0, 1, ..., num_sampled - 1, and every expected count is 1.

    Args:
        true_classes: ``[B, num_true]`` (or ``[B]`` if ``num_true`` is 1) integer classes.
        num_true: True classes per example, T.
        num_sampled: Number of classes, V, at most 2**31 - 1.
        unique: Ignored.
        seed: Ignored.
        name: Ignored.

    Returns:
        ``SampledValues(sampled_candidates [V], true_expected_count [B, T], sampled_expected_count [V])``.

    Raises:
        ValueError: A class outside [0, num_sampled); num_sampled < 1.
        TypeError: Classes that are not integers.
    """
    return first_call("all", true_classes, num_true, num_sampled, unique, num_sampled, seed)
