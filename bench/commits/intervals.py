"""Medians with confidence intervals that assume nothing about the distribution, and what they have to satisfy."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

CONFIDENCE = 0.95
# Of NEW to OLD: the upper end of the interval of the median ratio, and of the median difference of the smallest call.
RATIO_LIMIT = 1.03
CALL_LIMIT_US = 1.0


class Interval(NamedTuple):
    median: float
    low: float
    high: float


def interval_rank(count: int) -> int:
    """The largest k (from 1) such that the k-th lowest and the k-th highest of `count` values enclose the median with
    `CONFIDENCE`; 0 where all of them do not.

    The median lies below the k-th lowest value if fewer than k of the values are below it: Binomial(count, 1/2).
    """
    missed, rank = 0.0, 0
    while rank < count // 2:
        missed += 2 * math.comb(count, rank) / 2**count
        if missed > 1 - CONFIDENCE:
            break
        rank += 1
    return rank


FEWEST_ROUNDS = next(count for count in range(1, 100) if interval_rank(count))


def median_interval(values: Sequence[float]) -> Interval:
    """The median of independent values, and a confidence interval of the median of their distribution."""
    rank = interval_rank(len(values))
    if rank == 0:
        raise ValueError(f"{len(values)} values: expected at least {FEWEST_ROUNDS}")
    ordered = sorted(values)
    return Interval(statistics.median(ordered), ordered[rank - 1], ordered[-rank])


def ratios(old: Sequence[float], new: Sequence[float]) -> Interval:
    """Of paired rounds: new over old."""
    return median_interval([after / before for before, after in zip(old, new, strict=True)])


def differences_us(old: Sequence[float], new: Sequence[float]) -> Interval:
    """Of paired rounds: new less old, of seconds, in microseconds."""
    return median_interval([1e6 * (after - before) for before, after in zip(old, new, strict=True)])
