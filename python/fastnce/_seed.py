"""From the ``seed`` argument to the two 64-bit words that key a random stream."""

from __future__ import annotations

import operator
from typing import Any, SupportsIndex, TypeAlias

from fastnce import _core
from fastnce._errors import is_a

Seed: TypeAlias = SupportsIndex | tuple[SupportsIndex, SupportsIndex] | None

_DEFAULT_GRAPH_SEED = 87654321  # TensorFlow's first word where only an op seed is given
_OP_SEED_MODULUS = 2**31 - 1


def seed_words(seed: Seed) -> tuple[int, int]:
    """``(seed, seed2)`` as unsigned 64-bit words: fresh entropy for ``None`` and for ``(0, 0)``, as in TensorFlow."""
    if seed is None:
        return _core.fresh_seed()
    if isinstance(seed, tuple | list):
        if len(seed) != 2:
            raise ValueError(f"seed has {len(seed)} parts: expected a pair (seed, seed2)")
        first, second = (word(integer(part, f"seed[{i}]"), f"seed[{i}]") for i, part in enumerate(seed))
        return (first, second) if first or second else _core.fresh_seed()
    return _DEFAULT_GRAPH_SEED, integer(seed, "seed") % _OP_SEED_MODULUS


def rounding_seed(seed: Seed) -> int:
    """One word of both, as the rounding of optimizers takes it."""
    first, second = seed_words(seed)
    return first ^ second << 32 & 2**64 - 1


def word(value: int, name: str) -> int:
    """A signed or unsigned 64-bit integer as an unsigned one."""
    if not -(2**63) <= value < 2**64:
        raise ValueError(f"{name} = {value}: expected a 64-bit integer")
    return value % 2**64


def integer(value: Any, name: str) -> int:
    """`value` as an ``int``, if it is an integer of any kind but bool."""
    if not isinstance(value, bool):
        try:
            return operator.index(value)
        except TypeError:
            pass
    raise TypeError(f"{name} {is_a(value)}: expected an integer")


def int64(value: Any, name: str) -> int:
    """The same within 64 bits, in the core's words."""
    number = integer(value, name)
    if not -(2**63) <= number < 2**63:
        bound = "at most 2^63 - 1" if number > 0 else "at least -2^63"
        raise ValueError(f"{name} = {number}: expected an integer of {bound}")
    return number
