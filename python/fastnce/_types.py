"""The tuples that the library returns. Arrays are NumPy's, or of the kind that the caller passed in."""

from __future__ import annotations

from typing import Any, NamedTuple


class SampledValues(NamedTuple):
    """What a candidate sampler returns: one set of S candidates, shared by the whole batch."""

    sampled_candidates: Any
    """int64 ``[S]``."""
    true_expected_count: Any
    """float32 ``[B, T]``: how often each true class is expected among the candidates."""
    sampled_expected_count: Any
    """float32 ``[S]``: the same for each candidate."""


class RowGrads(NamedTuple):
    """Gradients of the n table rows that a batch touches; every other row's is zero."""

    ids: Any
    """int64 ``[n]``, ascending, each id once."""
    weights: Any
    """``[n, D]``."""
    biases: Any
    """``[n]``."""


class Grads(NamedTuple):
    """Gradients of ``sum(grad_loss * loss)``."""

    inputs: Any
    """``[B, D]``."""
    rows: RowGrads
    """Rows of weights and biases, sparse."""


class SamplerState(NamedTuple):
    """Where a sampler's stream stands: two 64-bit seeds and the number of calls made."""

    seed: int
    seed2: int
    calls: int
