"""Given weights: unigram counts, from a list or from a vocabulary file."""

from __future__ import annotations

import os
from typing import Any, SupportsFloat, SupportsIndex, overload

import numpy as np
import numpy.typing as npt

from fastnce import _core
from fastnce._errors import is_a
from fastnce._samplers._base import FixedSampler, first_call
from fastnce._seed import Seed
from fastnce._types import ArrayT, FloatsLike, IdLists, IdsLike, NumpySamples, SampledValues


@overload
def fixed_unigram_candidate_sampler(
    true_classes: npt.NDArray[Any] | IdLists,
    num_true: SupportsIndex,
    num_sampled: SupportsIndex,
    unique: bool | np.bool,
    range_max: SupportsIndex,
    vocab_file: str | os.PathLike[str] = ...,
    distortion: SupportsFloat = ...,
    num_reserved_ids: SupportsIndex = ...,
    num_shards: SupportsIndex = ...,
    shard: SupportsIndex = ...,
    unigrams: FloatsLike = ...,
    seed: Seed = ...,
    name: str | None = ...,
) -> NumpySamples: ...


@overload
def fixed_unigram_candidate_sampler(
    true_classes: ArrayT,
    num_true: SupportsIndex,
    num_sampled: SupportsIndex,
    unique: bool | np.bool,
    range_max: SupportsIndex,
    vocab_file: str | os.PathLike[str] = ...,
    distortion: SupportsFloat = ...,
    num_reserved_ids: SupportsIndex = ...,
    num_shards: SupportsIndex = ...,
    shard: SupportsIndex = ...,
    unigrams: FloatsLike = ...,
    seed: Seed = ...,
    name: str | None = ...,
) -> SampledValues[ArrayT, ArrayT]: ...


def fixed_unigram_candidate_sampler(
    true_classes: IdsLike,
    num_true: SupportsIndex,
    num_sampled: SupportsIndex,
    unique: bool | np.bool,
    range_max: SupportsIndex,
    vocab_file: str | os.PathLike[str] = "",
    distortion: SupportsFloat = 1.0,
    num_reserved_ids: SupportsIndex = 0,
    num_shards: SupportsIndex = 1,
    shard: SupportsIndex = 0,
    unigrams: FloatsLike = (),
    seed: Seed = None,
    name: str | None = None,
) -> SampledValues:
    """Sample classes by given weights: ``tf.random.fixed_unigram_candidate_sampler``.

    ::

        p(k) = weight(k) / sum of all weights,      weight(k) = unigram(k)**distortion, or 0 for reserved ids
        expected count of k = num_sampled * p(k)                 with replacement
                            = 1 - (1 - p(k))**tries              unique; tries: draws until num_sampled were distinct

    Ids and counts are TensorFlow's to the last bits: the sum is a running float32 sum. Each call builds the alias table
    of V classes; :class:`UnigramSampler` builds it once and sums in float64. Where TensorFlow hangs or returns NaN
    (weights that are negative, infinite or NaN, all zero, or too few above zero) there is an error.

    A vocabulary file has one class per line, in the order of the ids: the number after the last comma of a line is its
    unigram. Empty lines do not count. Only lines of the shard are read as numbers.

    Args:
        true_classes: ``[B, num_true]`` (or ``[B]`` if ``num_true`` is 1) integer classes.
        num_true: True classes per example, T.
        num_sampled: Classes to sample, S.
        unique: Sample without repetition.
        range_max: Number of classes, V: reserved ids and unigrams (of the shard), at most 2**31 - 1.
        vocab_file: Path of a vocabulary file; it or ``unigrams`` must be given.
        distortion: Power of the unigrams: 0 makes all weights 1, 0.75 is word2vec's.
        num_reserved_ids: Classes that come first and are never sampled: their expected count is 0, which losses refuse.
        num_shards: Take every ``num_shards``-th word only, counted from ``shard``. As in TensorFlow the count of the
            unigrams begins with the number of this shard's reserved ids.
        shard: The one of this sampler.
        unigrams: ``[n]`` numbers of at least 0.
        seed: As in :func:`log_uniform_candidate_sampler`.
        name: Ignored.

    Returns:
        ``SampledValues(sampled_candidates [S], true_expected_count [B, T], sampled_expected_count [S])``.

    Raises:
        ValueError: A unigram or a line that is no finite number of at least 0, by position or file and line; all
            weights 0; other than V of them; a class outside [0, range_max); S < 1, or with ``unique`` S greater than
            the number of classes that can be drawn; both or neither of ``vocab_file`` and ``unigrams``.
        TypeError: Classes that are not integers, unigrams that are not numbers.
        OSError: The file cannot be read.
    """
    if not isinstance(vocab_file, str | os.PathLike):
        raise TypeError(f"vocab_file {is_a(vocab_file)}: expected a path")
    no_unigrams = isinstance(unigrams, tuple | list) and not unigrams
    if (vocab_file == "") == no_unigrams:
        raise ValueError(
            f"vocab_file and unigrams are {'missing' if no_unigrams else 'both given'}: expected one of them"
        )
    source = vocab_file if no_unigrams else unigrams
    table = _table(source, distortion, num_reserved_ids, num_shards, shard, float32_sums=True)
    return first_call(table, true_classes, num_true, num_sampled, unique, range_max, seed)


def _table(
    unigrams: FloatsLike | str | os.PathLike[str],
    distortion: SupportsFloat,
    num_reserved_ids: SupportsIndex,
    num_shards: SupportsIndex,
    shard: SupportsIndex,
    *,
    float32_sums: bool,
) -> _core.UnigramTable:
    """From numbers, or from the file of this path."""
    options = (distortion, num_reserved_ids, num_shards, shard, float32_sums)
    if not isinstance(unigrams, str | os.PathLike):
        return _core.UnigramTable.of_unigrams(unigrams, *options)
    with open(unigrams, "rb") as file:
        text = file.read()
    name = os.fsdecode(unigrams).encode(errors="backslashreplace").decode()  # for errors
    return _core.UnigramTable.of_vocabulary(text, name, *options)


class UnigramSampler(FixedSampler):
    """A sampler by given weights whose calls continue one random stream: the interface of :class:`LogUniformSampler`.

    >>> sampler = UnigramSampler.from_counts(word_counts, num_sampled=64, seed=7)      # word2vec's noise: counts**0.75
    >>> values = sampler(labels)

    ``unigrams`` are numbers ``[n]``, or the path of a vocabulary file. The other arguments and the errors are those of
    :func:`fixed_unigram_candidate_sampler`, and so are the ids; expected counts are more exact than its, since the
    weights are summed in float64. A draw takes constant time, and the table 12 bytes per class. ``range_max`` is the
    number of classes: reserved ids and unigrams (of the shard).
    """

    def __init__(
        self,
        unigrams: FloatsLike | str | os.PathLike[str],
        num_sampled: SupportsIndex,
        *,
        distortion: SupportsFloat = 1.0,
        num_reserved_ids: SupportsIndex = 0,
        num_shards: SupportsIndex = 1,
        shard: SupportsIndex = 0,
        num_true: SupportsIndex = 1,
        unique: bool | np.bool = True,
        seed: Seed = None,
    ) -> None:
        table = _table(unigrams, distortion, num_reserved_ids, num_shards, shard, float32_sums=False)
        super().__init__(table, len(table), num_sampled, num_true, unique, seed)

    @classmethod
    def from_counts(
        cls,
        counts: FloatsLike,
        num_sampled: SupportsIndex,
        *,
        power: SupportsFloat = 0.75,
        num_true: SupportsIndex = 1,
        unique: bool | np.bool = True,
        seed: Seed = None,
    ) -> UnigramSampler:
        """Sample class k in proportion to ``counts[k]**power``; a class of count 0 is never sampled."""
        return cls(counts, num_sampled, distortion=power, num_true=num_true, unique=unique, seed=seed)

    @property
    def weights(self) -> npt.NDArray[np.float32]:
        """The weight of every class, ``[V]``: a copy."""
        assert isinstance(self._distribution, _core.UnigramTable)
        return self._distribution.weights
