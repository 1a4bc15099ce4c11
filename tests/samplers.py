"""The table of samplers: how each is made, its twin, and arguments of a small one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

import fastnce
from fastnce import reference


@dataclass(frozen=True)
class Kind:
    """One sampler. ``make(range_max, num_sampled, ...)`` gives the object; ``twin(range_max)`` its distribution."""

    name: str
    make: Callable[..., Any]
    twin: Callable[[int], reference.Distribution]
    function: Callable[..., Any] | None
    """``function(true_classes, num_true, num_sampled, unique, range_max, seed=...)`` draws the first call."""
    probability: Callable[[int], np.ndarray]
    """``[V]``, in float64, from the definition."""
    most_classes: int = 2**63 - 1


def zipf(range_max: int) -> np.ndarray:
    """Unigrams, the first class without weight where there are others."""
    unigrams = 1.0 / np.arange(1, range_max + 1)
    unigrams[: range_max > 1] = 0.0
    return unigrams.astype(np.float32)


@cache
def unigram_twin(range_max: int) -> reference.Unigram:
    return reference.Unigram(zipf(range_max), float32_sums=False)


def make_unigram(range_max, num_sampled, **options):
    return fastnce.UnigramSampler(zipf(range_max), num_sampled, **options)


def call_unigram(*arguments, seed=None):
    return fastnce.fixed_unigram_candidate_sampler(*arguments, unigrams=zipf(arguments[-1]), seed=seed)


def log_uniform(range_max: int) -> np.ndarray:
    k = np.arange(range_max)
    return np.log((k + 2) / (k + 1)) / np.log(range_max + 1)


def uniform(range_max: int) -> np.ndarray:
    return np.full(range_max, 1 / range_max)


def unigram(range_max: int) -> np.ndarray:
    return zipf(range_max).astype(np.float64) / zipf(range_max).sum(dtype=np.float64)


KINDS = [
    Kind(
        "log_uniform",
        fastnce.LogUniformSampler,
        reference.LogUniform,
        fastnce.log_uniform_candidate_sampler,
        log_uniform,
    ),
    Kind("uniform", fastnce.UniformSampler, reference.Uniform, fastnce.uniform_candidate_sampler, uniform),
    Kind(
        "unigram",
        make_unigram,
        unigram_twin,
        call_unigram,
        unigram,
        2**20,
    ),
    Kind(
        "learned_unigram",
        fastnce.LearnedUnigramSampler,
        lambda range_max: reference.LearnedUnigram(np.ones(range_max, np.int32)),
        fastnce.learned_unigram_candidate_sampler,
        uniform,
        2**20,
    ),
]
