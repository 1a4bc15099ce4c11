"""Candidate samplers: unique or with repetition, expected counts, accidental hits."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice
from typing import TypedDict, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnce._types import Ragged, SampledValues
from fastnce.reference._distributions import (
    Distribution,
    Floats32,
    Floats64,
    Ids,
    LearnedUnigram,
    LogUniform,
    Uniform,
    Unigram,
)
from fastnce.reference._random import Seed, seed_pair
from fastnce.reference._targets import Labels, Lists, list_of

FLT_MAX = float(np.finfo(np.float32).max)


def expected_count(p: Floats32, num_sampled: int, tries: int) -> Floats32:
    """How often a class of probability ``p`` is expected among the samples; same shape as ``p``.

    ``S p`` where every draw was kept (``tries == S``: may exceed 1), else ``1 - (1 - p)**tries``.
    TensorFlow's float32 ``p``, ``float32(S)`` and ``float32(tries)`` are part of the definition; its float32
    ``log1p`` and ``expm1`` are not, and this float64 evaluation differs from them by at most 2 ulp.
    """
    if tries == num_sampled:
        return p * np.float32(num_sampled)
    with np.errstate(divide="ignore"):  # p = 1 has log 0: expected count 1
        return (-np.expm1(float(np.float32(tries)) * np.log1p(-p.astype(np.float64)))).astype(np.float32)


def redrawn(p: Floats32, excluded: Floats64) -> Floats32:
    """Probability of a class in one draw, where draws of excluded classes are drawn again: ``p / (1 - sum excluded)``.

    ``excluded`` holds the probabilities of those classes, each once. They are not rounded to float32, nor is their sum
    rounded: else little would be left of what they leave where that is little. The formula serves a label that is
    itself excluded, too, up to 1.
    """
    left = max(math.fsum([1.0, *(-excluded).tolist()]), float(np.finfo(np.float64).tiny))
    with np.errstate(over="ignore"):
        return np.minimum(p.astype(np.float64) / left, 1.0).astype(np.float32)


def one_set(draws: Iterator[int], num_sampled: int, unique: bool, excluded: set[int]) -> tuple[Ids, int]:
    """The first S draws that are not excluded, with ``unique`` the first S different ones, and how many it took.

    Excluded draws do not count among those that it took.
    """
    left = (k for k in draws if k not in excluded)
    if not unique:
        return np.fromiter(islice(left, num_sampled), np.int64, num_sampled), num_sampled
    kept: dict[int, None] = {}
    tries = 0
    while len(kept) < num_sampled:
        kept[next(left)] = None
        tries += 1
    return np.fromiter(kept, np.int64, num_sampled), tries


def candidates(
    distribution: Distribution,
    true_classes: Labels,
    num_true: int,
    num_sampled: int,
    unique: bool,
    seed: Seed,
    call: int = 0,
    num_groups: int | None = None,
    exclude: Lists | None = None,
) -> SampledValues:
    """Call number ``call`` (from 0) of a sampler: ids ``[S]``, expected counts ``[B, T]`` and ``[S]``.

    With ``unique`` the draws are walked in order and first occurrences kept; ``tries`` is the number of draws
    walked. True classes may be Ragged, ``num_true`` then has no meaning and their counts are ``[n]``.

    With ``num_groups`` = G there are ids ``[G, S]`` and counts ``[G, S]``, row g for the examples
    ``[g B/G, (g+1) B/G)``: group g of call c is what call ``c G + g`` would draw alone, with a number of tries of its
    own, by which the true classes of its examples are counted.

    ``exclude``, which needs G = B, lists classes that the sampler draws again for example b: they are skipped in the
    stream and are no tries, and all counts of the example follow from the probabilities that :func:`redrawn` gives.
    """
    pair = seed_pair(seed)
    if isinstance(true_classes, Ragged):
        labels, offsets = (np.asarray(array, np.int64) for array in true_classes)
        lengths = np.diff(offsets)
    else:
        labels = np.asarray(true_classes, np.int64).reshape(-1, num_true)
        lengths = np.ones(len(labels), np.int64)  # rows, whose counts are filled in whole
    groups = 1 if num_groups is None else num_groups
    assert exclude is None or groups == len(lengths)
    group_of_label = np.repeat(np.repeat(np.arange(groups), len(lengths) // groups), lengths)
    ids = np.empty((groups, num_sampled), np.int64)
    true_count, sampled_count = np.empty(labels.shape, np.float32), np.empty(ids.shape, np.float32)
    for g in range(groups):
        excluded = np.empty(0, np.int64) if exclude is None else np.unique(list_of(exclude, g))
        draws = distribution.draws(*pair, call * groups + g, num_sampled)
        ids[g], tries = one_set(draws, num_sampled, unique, set(excluded.tolist()))
        p_excluded = distribution.exact_probability(excluded)
        own = group_of_label == g
        true_count[own], sampled_count[g] = (
            expected_count(redrawn(distribution.probability(k), p_excluded), num_sampled, tries)
            for k in (labels[own], ids[g])
        )
    if num_groups is None:
        return SampledValues(ids[0], true_count, sampled_count[0])
    return SampledValues(ids, true_count, sampled_count)


class Groups(TypedDict, total=False):
    """Options of every sampler; see :func:`candidates`."""

    num_groups: int | None
    exclude: Lists | None


def log_uniform_candidate_sampler(
    true_classes: Labels,
    num_true: int,
    num_sampled: int,
    unique: bool,
    range_max: int,
    seed: Seed,
    call: int = 0,
    **groups: Unpack[Groups],
) -> SampledValues:
    """:func:`candidates` of the log-uniform distribution."""
    return candidates(LogUniform(range_max), true_classes, num_true, num_sampled, unique, seed, call, **groups)


def uniform_candidate_sampler(
    true_classes: Labels,
    num_true: int,
    num_sampled: int,
    unique: bool,
    range_max: int,
    seed: Seed,
    call: int = 0,
    **groups: Unpack[Groups],
) -> SampledValues:
    """:func:`candidates` of the uniform distribution."""
    return candidates(Uniform(range_max), true_classes, num_true, num_sampled, unique, seed, call, **groups)


def fixed_unigram_candidate_sampler(
    true_classes: Labels,
    num_true: int,
    num_sampled: int,
    unique: bool,
    range_max: int,
    unigrams: ArrayLike,
    distortion: float = 1.0,
    num_reserved_ids: int = 0,
    num_shards: int = 1,
    shard: int = 0,
    seed: Seed = None,
    call: int = 0,
    float32_sums: bool = True,
    **groups: Unpack[Groups],
) -> SampledValues:
    """:func:`candidates` of the weights that TensorFlow makes of these attributes."""
    distribution = Unigram(unigrams, distortion, num_reserved_ids, num_shards, shard, float32_sums)
    assert len(distribution.weights) == range_max
    return candidates(distribution, true_classes, num_true, num_sampled, unique, seed, call, **groups)


def learned_unigram_candidate_sampler(
    true_classes: Labels,
    num_true: int,
    num_sampled: int,
    unique: bool,
    weights: NDArray[np.int32],
    seed: Seed,
    call: int = 0,
    **groups: Unpack[Groups],
) -> SampledValues:
    """:func:`candidates` of the weights, to which 1 is then added for each true class, in place.

    Classes are counted in row-major order, until the weights add up to ``2**31 - 1``. All groups of a call draw from
    the weights before it.
    """
    values = candidates(LearnedUnigram(weights), true_classes, num_true, num_sampled, unique, seed, call, **groups)
    room = 2**31 - 1 - int(weights.sum(dtype=np.int64))
    classes = true_classes.values if isinstance(true_classes, Ragged) else true_classes
    np.add.at(weights, np.asarray(classes, np.int64).ravel()[:room], 1)
    return values


def all_candidate_sampler(true_classes: ArrayLike, num_true: int, num_sampled: int) -> SampledValues:
    """Every class once, with expected counts of 1."""
    labels = np.asarray(true_classes, np.int64).reshape(-1, num_true)
    ones = np.ones(num_sampled, np.float32)
    return SampledValues(np.arange(num_sampled, dtype=np.int64), np.ones(labels.shape, np.float32), ones)


def compute_accidental_hits(
    true_classes: ArrayLike, sampled_candidates: ArrayLike, num_true: int
) -> tuple[NDArray[np.int32], Ids, Floats32]:
    """Where sampled ids ``[S]`` are true classes ``[B, T]`` of a row: rows, positions, weights, each ``[H]``.

    Row-major over (row, true column), and within it every position of the id in ascending order. (TensorFlow
    keeps the last position only.) All weights are ``-FLT_MAX``.
    """
    labels = np.asarray(true_classes, np.int64).reshape(-1, num_true) if num_true else np.empty((0, 0))
    sampled = np.asarray(sampled_candidates, np.int64)
    rows: list[int] = []
    positions: list[int] = []
    for row, classes in enumerate(labels):
        for k in classes:
            found = np.flatnonzero(sampled == k).tolist()
            rows += [row] * len(found)
            positions += found
    return np.array(rows, np.int32), np.array(positions, np.int64), np.full(len(rows), -FLT_MAX, np.float32)
