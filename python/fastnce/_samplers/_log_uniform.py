"""The log-uniform (Zipfian) distribution."""

from __future__ import annotations

from typing import Any, SupportsIndex, overload

import numpy as np
import numpy.typing as npt

from fastnce._samplers._base import FixedSampler, first_call
from fastnce._seed import Seed
from fastnce._types import ArrayT, IdLists, IdsLike, NumpySamples, SampledValues


@overload
def log_uniform_candidate_sampler(
    true_classes: npt.NDArray[Any] | IdLists,
    num_true: SupportsIndex,
    num_sampled: SupportsIndex,
    unique: bool | np.bool,
    range_max: SupportsIndex,
    seed: Seed = ...,
    name: str | None = ...,
) -> NumpySamples: ...


@overload
def log_uniform_candidate_sampler(
    true_classes: ArrayT,
    num_true: SupportsIndex,
    num_sampled: SupportsIndex,
    unique: bool | np.bool,
    range_max: SupportsIndex,
    seed: Seed = ...,
    name: str | None = ...,
) -> SampledValues[ArrayT, ArrayT]: ...


def log_uniform_candidate_sampler(
    true_classes: IdsLike,
    num_true: SupportsIndex,
    num_sampled: SupportsIndex,
    unique: bool | np.bool,
    range_max: SupportsIndex,
    seed: Seed = None,
    name: str | None = None,
) -> SampledValues:
    """Sample classes from a log-uniform (Zipfian) distribution: ``tf.random.log_uniform_candidate_sampler``.

    ::

        p(k) = log((k + 2) / (k + 1)) / log(range_max + 1),      k in [0, range_max)
        expected count of k = num_sampled * p(k)                 with replacement
                            = 1 - (1 - p(k))**tries              unique; tries: draws until num_sampled were distinct

    For classes sorted by decreasing frequency. The whole batch shares one set of samples; true classes are not excluded
    from it. Calls with the same seed return the same ids; :class:`LogUniformSampler` continues a stream. Unique
    sampling of nearly all classes takes about V log(V)**2 draws; Ctrl-C on the main thread ends it within about a tenth
    of a second. On CUDA the ids are the same, and the expected count of a class out of range is NaN.

    Args:
        true_classes: ``[B, num_true]`` (or ``[B]`` if ``num_true`` is 1) integer classes.
        num_true: True classes per example, T.
        num_sampled: Classes to sample, S.
        unique: Sample without repetition.
        range_max: Number of classes, V, at most 2**63 - 1.
        seed: ``None`` for fresh entropy; a pair ``(seed, seed2)``, which gives the ids of TensorFlow's op with these
            attributes on its first call; or an int, TensorFlow's op seed.
        name: Ignored.

    Returns:
        ``SampledValues(sampled_candidates [S], true_expected_count [B, T], sampled_expected_count [S])``.

    Raises:
        ValueError: On the CPU a class outside [0, range_max); S < 1, or S > V with ``unique``; the message says which.
        TypeError: Classes that are not integers.
    """
    return first_call("log_uniform", true_classes, num_true, num_sampled, unique, range_max, seed)


class LogUniformSampler(FixedSampler):
    """A log-uniform sampler whose calls continue one random stream, as a TensorFlow op does in a graph.

    >>> sampler = LogUniformSampler(range_max=50_000, num_sampled=64, seed=7)
    >>> values = sampler(labels)                       # a SampledValues, fresh ids at each call
    >>> loss = nce_loss(..., sampled_values=values)
    >>> values = sampler(labels, num_groups=len(labels), exclude=seen)     # 64 classes for each example, none in seen

    ``range_max`` is the number of classes V, ``num_sampled`` S, ``num_true`` T; ``unique``, ``seed`` and the errors are
    those of :func:`log_uniform_candidate_sampler`. The sizes are fixed for the life of a sampler. ``state`` can be
    saved and set: a resumed run draws the same ids. Threads may share a sampler.

    A sampler belongs to the device of its first call; a call on another raises ``ValueError``. A CUDA device counts the
    calls itself, so that each replay of a CUDA graph draws fresh ids. The first call must precede the capture; the
    caller must order calls on several streams; ``state`` synchronises. A graph keeps the seed with which it was
    captured, and may outlive the sampler. Copies and pickles belong to no device.
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
        super().__init__("log_uniform", range_max, num_sampled, num_true, unique, seed)
