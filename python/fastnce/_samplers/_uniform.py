"""The uniform distribution."""

from __future__ import annotations

from typing import Any, SupportsIndex, overload

import numpy as np
import numpy.typing as npt

from fastnce._samplers._base import FixedSampler, first_call
from fastnce._seed import Seed
from fastnce._types import ArrayT, IdLists, IdsLike, NumpySamples, SampledValues


@overload
def uniform_candidate_sampler(
    true_classes: npt.NDArray[Any] | IdLists,
    num_true: SupportsIndex,
    num_sampled: SupportsIndex,
    unique: bool | np.bool,
    range_max: SupportsIndex,
    seed: Seed = ...,
    name: str | None = ...,
) -> NumpySamples: ...


@overload
def uniform_candidate_sampler(
    true_classes: ArrayT,
    num_true: SupportsIndex,
    num_sampled: SupportsIndex,
    unique: bool | np.bool,
    range_max: SupportsIndex,
    seed: Seed = ...,
    name: str | None = ...,
) -> SampledValues[ArrayT, ArrayT]: ...


def uniform_candidate_sampler(
    true_classes: IdsLike,
    num_true: SupportsIndex,
    num_sampled: SupportsIndex,
    unique: bool | np.bool,
    range_max: SupportsIndex,
    seed: Seed = None,
    name: str | None = None,
) -> SampledValues:
    """Sample classes uniformly: ``tf.random.uniform_candidate_sampler``.

    ::

        p(k) = 1 / range_max                                     k in [0, range_max)
        expected count of k = num_sampled * p(k)                 with replacement
                            = 1 - (1 - p(k))**tries              unique; tries: draws until num_sampled were distinct

    Seeds, devices and the rest are as in :func:`log_uniform_candidate_sampler`; :class:`UniformSampler` continues a
    stream.

    Args:
        true_classes: ``[B, num_true]`` (or ``[B]`` if ``num_true`` is 1) integer classes.
        num_true: True classes per example, T.
        num_sampled: Classes to sample, S.
        unique: Sample without repetition.
        range_max: Number of classes, V, at most 2**63 - 1.
        seed: As in :func:`log_uniform_candidate_sampler`.
        name: Ignored.

    Returns:
        ``SampledValues(sampled_candidates [S], true_expected_count [B, T], sampled_expected_count [S])``.

    Raises:
        ValueError: A class outside [0, range_max); S < 1, or S > V with ``unique``; the message says which.
        TypeError: Classes that are not integers.
    """
    return first_call("uniform", true_classes, num_true, num_sampled, unique, range_max, seed)


class UniformSampler(FixedSampler):
    """A uniform sampler whose calls continue one random stream: the interface of :class:`LogUniformSampler`.

    >>> sampler = UniformSampler(range_max=50_000, num_sampled=64, seed=7)
    >>> values = sampler(labels)

    ``range_max`` is the number of classes V, ``num_sampled`` S, ``num_true`` T; ``unique``, ``seed`` and the errors are
    those of :func:`uniform_candidate_sampler`.
    """

    def __init__(
        self,
        range_max: SupportsIndex,
        num_sampled: SupportsIndex,
        *,
        num_true: SupportsIndex = 1,
        unique: bool | np.bool = True,
        seed: Seed = None,
    ) -> None:
        super().__init__("uniform", range_max, num_sampled, num_true, unique, seed)
