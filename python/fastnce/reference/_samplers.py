"""Candidate samplers: unique or with repetition, expected counts, accidental hits."""

from __future__ import annotations

from itertools import islice

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnce._types import SampledValues
from fastnce.reference._distributions import (
    Distribution,
    Floats32,
    Ids,
    LearnedUnigram,
    LogUniform,
    Uniform,
    Unigram,
)
from fastnce.reference._random import Seed, seed_pair

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


def candidates(
    distribution: Distribution,
    true_classes: ArrayLike,
    num_true: int,
    num_sampled: int,
    unique: bool,
    seed: Seed,
    call: int = 0,
) -> SampledValues:
    """Call number ``call`` (from 0) of a sampler: ids ``[S]``, expected counts ``[B, T]`` and ``[S]``.

    With ``unique`` the draws are walked in order and first occurrences kept; ``tries`` is the number of draws
    walked.
    """
    draws = distribution.draws(*seed_pair(seed), call, num_sampled)
    tries = num_sampled
    if unique:
        kept: dict[int, None] = {}
        tries = 0
        while len(kept) < num_sampled:
            kept[next(draws)] = None
            tries += 1
        ids = np.fromiter(kept, np.int64, num_sampled)
    else:
        ids = np.fromiter(islice(draws, num_sampled), np.int64, num_sampled)
    labels = np.asarray(true_classes, np.int64).reshape(-1, num_true)
    true_count, sampled_count = (expected_count(distribution.probability(k), num_sampled, tries) for k in (labels, ids))
    return SampledValues(ids, true_count, sampled_count)


def log_uniform_candidate_sampler(
    true_classes: ArrayLike,
    num_true: int,
    num_sampled: int,
    unique: bool,
    range_max: int,
    seed: Seed,
    call: int = 0,
) -> SampledValues:
    """:func:`candidates` of the log-uniform distribution."""
    return candidates(LogUniform(range_max), true_classes, num_true, num_sampled, unique, seed, call)


def uniform_candidate_sampler(
    true_classes: ArrayLike,
    num_true: int,
    num_sampled: int,
    unique: bool,
    range_max: int,
    seed: Seed,
    call: int = 0,
) -> SampledValues:
    """:func:`candidates` of the uniform distribution."""
    return candidates(Uniform(range_max), true_classes, num_true, num_sampled, unique, seed, call)


def fixed_unigram_candidate_sampler(
    true_classes: ArrayLike,
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
) -> SampledValues:
    """:func:`candidates` of the weights that TensorFlow makes of these attributes."""
    distribution = Unigram(unigrams, distortion, num_reserved_ids, num_shards, shard, float32_sums)
    assert len(distribution.weights) == range_max
    return candidates(distribution, true_classes, num_true, num_sampled, unique, seed, call)


def learned_unigram_candidate_sampler(
    true_classes: ArrayLike,
    num_true: int,
    num_sampled: int,
    unique: bool,
    weights: NDArray[np.int32],
    seed: Seed,
    call: int = 0,
) -> SampledValues:
    """:func:`candidates` of the weights, to which 1 is then added for each true class, in place.

    Classes are counted in row-major order, until the weights add up to ``2**31 - 1``.
    """
    values = candidates(LearnedUnigram(weights), true_classes, num_true, num_sampled, unique, seed, call)
    room = 2**31 - 1 - int(weights.sum(dtype=np.int64))
    np.add.at(weights, np.asarray(true_classes, np.int64).ravel()[:room], 1)
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
