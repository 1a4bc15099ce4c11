"""Candidate samplers: draws, probabilities, expected counts, accidental hits."""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnce._types import SampledValues
from fastnce.reference._random import WORD, Seed, philox4x32, seed_pair, stream_start

Floats32: TypeAlias = NDArray[np.float32]
Ids: TypeAlias = NDArray[np.int64]

FLT_MAX = float(np.finfo(np.float32).max)


def log_uniform_draws(seed: int, seed2: int, call: int, num_sampled: int, range_max: int, count: int) -> Ids:
    """The first ``count`` draws (before any rejection) of call number ``call``, as int64 ``[count]``.

    Draw i takes words ``2 (i mod 2)`` and the next of Philox block ``i div 2``, the first word giving the
    high bits of ``u = ((w0 mod 2**20) 2**32 + w1) / 2**52`` in [0, 1), and is ``k = floor(exp(u log(V + 1)))
    - 1 (mod V)``, the inverse of the distribution function ``log(k + 2) / log(V + 1)``. ``math.exp`` is the C
    library's, as in TensorFlow.
    """
    start = stream_start(seed2, call, num_sampled)
    block = np.arange((count + 1) // 2, dtype=np.uint64)
    low = np.uint64(start % 2**64) + block
    high = np.uint64(start >> 64) + (low < block).astype(np.uint64)
    key = (seed & WORD, seed >> 32 & WORD)
    words = np.stack(philox4x32((low & WORD, low >> 32, high & WORD, high >> 32), key), axis=1).reshape(-1, 2)
    u = ((words[:count, 0] & 0xFFFFF) << 32 | words[:count, 1]).astype(np.float64) * 2.0**-52
    log_range = math.log1p(range_max)
    return np.array([(int(math.exp(x)) - 1) % range_max for x in (u * log_range).tolist()], np.int64)


def log_uniform_probability(ids: ArrayLike, range_max: int) -> Floats32:
    """``p(k) = log((k + 2) / (k + 1)) / log(V + 1)``, rounded once to float32; the shape of ``ids``."""
    k = np.asarray(ids, np.int64).astype(np.float64)
    return (np.log((k + 2.0) / (k + 1.0)) / math.log1p(range_max)).astype(np.float32)


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


def log_uniform_candidate_sampler(
    true_classes: ArrayLike,
    num_true: int,
    num_sampled: int,
    unique: bool,
    range_max: int,
    seed: Seed,
    call: int = 0,
) -> SampledValues:
    """Call number ``call`` (from 0) of a sampler: ids ``[S]``, expected counts ``[B, T]`` and ``[S]``.

    With ``unique`` the draws are walked in order and first occurrences kept; ``tries`` is the number of draws
    walked.
    """
    first, second = seed_pair(seed)
    tries = count = num_sampled
    ids = log_uniform_draws(first, second, call, num_sampled, range_max, count)
    if unique:
        while len(set(ids.tolist())) < num_sampled:
            count *= 2
            ids = log_uniform_draws(first, second, call, num_sampled, range_max, count)
        kept: dict[int, None] = {}
        tries = 0
        while len(kept) < num_sampled:
            kept[int(ids[tries])] = None
            tries += 1
        ids = np.fromiter(kept, np.int64, num_sampled)
    labels = np.asarray(true_classes, np.int64).reshape(-1, num_true)
    true_count, sampled_count = (
        expected_count(log_uniform_probability(k, range_max), num_sampled, tries) for k in (labels, ids)
    )
    return SampledValues(ids, true_count, sampled_count)


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
