"""Candidate samplers whose samples a JAX key decides."""

from __future__ import annotations

from typing import Any

from fastnce import _core
from fastnce._types import SampledValues
from fastnce.jax import _arguments
from fastnce.jax._handlers import draw


def log_uniform_candidate_sampler(
    true_classes: Any, num_true: int, num_sampled: int, unique: bool, range_max: int, *, key: Any
) -> SampledValues:
    """:func:`fastnce.log_uniform_candidate_sampler` with the two words of a JAX key as ``seed``, for the same ids.

    Args:
        true_classes: ``[B, num_true]`` (or ``[B]`` if ``num_true`` is 1) integer classes.
        num_true: True classes per example, T.
        num_sampled: Classes to sample, S.
        unique: Sample without repetition.
        range_max: Number of classes, V; at most 2**31 without ``jax_enable_x64``.
        key: A key from ``jax.random.key``, or its words as uint32. Four words make two 64-bit words; the
            first of each pair is the upper half.

    Returns:
        ``SampledValues(sampled_candidates [S], true_expected_count [B, T], sampled_expected_count [S])``. Ids are
        int32, or int64 with ``jax_enable_x64``.

    Raises:
        ValueError, TypeError: When traced, as the NumPy function.
        jax.errors.JaxRuntimeError: When run on the CPU: a class outside [0, range_max).
    """
    words = _arguments.key_words(key)
    classes = _arguments.seen_by_core(true_classes)
    _core.check_candidates("log_uniform", classes, num_true, num_sampled, unique, range_max)
    _arguments.require_ids_fit(range_max, "range_max")
    classes = _arguments.ids(true_classes, (-1, num_true), "true_classes")
    return SampledValues(*draw(words, classes, num_sampled, unique, range_max, "true_classes", "range_max"))
