"""From the ``seed`` argument to the two 64-bit words that key a random stream."""

from __future__ import annotations

import operator
from typing import Any, TypeAlias

from fastnce import _core

Seed: TypeAlias = int | tuple[int, int] | None

_DEFAULT_GRAPH_SEED = 87654321  # TensorFlow's first word where only an op seed is given
_OP_SEED_MODULUS = 2**31 - 1
_MASK = 2**64 - 1


def seed_words(seed: Seed) -> tuple[int, int]:
    """``(seed, seed2)`` as unsigned 64-bit words: fresh entropy for ``None`` and for ``(0, 0)``, as in TensorFlow."""
    if seed is None:
        return _core.fresh_seed()
    if isinstance(seed, tuple | list):
        if len(seed) != 2:
            raise ValueError(f"seed has {len(seed)} parts: expected a pair (seed, seed2)")
        first, second = (_integer(part) for part in seed)
        for part in (first, second):
            if not -(2**63) <= part <= _MASK:
                raise ValueError(f"seed holds {part}: expected 64-bit integers")
        return (first & _MASK, second & _MASK) if first or second else _core.fresh_seed()
    return _DEFAULT_GRAPH_SEED, _integer(seed) % _OP_SEED_MODULUS


def _integer(value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError("seed is a bool: expected None, an integer or a pair of integers")
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"seed is a {type(value).__name__}: expected None, an integer or a pair of integers") from None
