"""TensorFlow's random numbers: seeds, Philox, and where in the stream a call begins."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Words: TypeAlias = NDArray[np.uint64]
"""32-bit words, held in uint64 so that a product of two of them is exact."""
Seed: TypeAlias = int | tuple[int, int] | None

DEFAULT_GRAPH_SEED = 87654321
"""The graph-level seed that TensorFlow assumes when only an op-level seed is given."""
WORD = 2**32 - 1
PHILOX_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
PHILOX_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
WORDS_RESERVED_PER_SAMPLE = 2048


def seed_pair(seed: Seed) -> tuple[int, int]:
    """The two unsigned 64-bit op attributes ``(seed, seed2)`` that a seed argument stands for.

    A pair is taken as it is (modulo 2**64); an int ``s`` is TensorFlow's op seed ``(87654321, s mod (2**31 -
    1))``; ``None``, and the pair ``(0, 0)``, are fresh entropy. Source:
    ``tensorflow/python/framework/random_seed.py``.
    """
    if isinstance(seed, int):
        return DEFAULT_GRAPH_SEED, seed % (2**31 - 1)
    if seed is None or tuple(seed) == (0, 0):
        return secrets.randbits(64), secrets.randbits(64)
    return seed[0] % 2**64, seed[1] % 2**64


def philox4x32(counter: Sequence[ArrayLike], key: tuple[int, int]) -> tuple[Words, Words, Words, Words]:
    """Philox 4x32-10 of four counter words and two key words; the words of ``counter`` may be arrays.

    One round: ``(c0, c1, c2, c3) -> (hi(M1 c2) ^ c1 ^ k0, lo(M1 c2), hi(M0 c0) ^ c3 ^ k1, lo(M0 c0))``, ten
    times, with the key stepped between rounds. Source: Salmon et al., "Parallel random numbers: as easy as 1,
    2, 3" (2011).
    """
    c0, c1, c2, c3 = (np.atleast_1d(np.asarray(word, np.uint64)) for word in counter)
    low, half = np.uint64(WORD), np.uint64(32)
    for turn in range(10):
        k0, k1 = (np.uint64((k + turn * step) & WORD) for k, step in zip(key, PHILOX_KEY_STEPS, strict=True))
        p0, p1 = c0 * np.uint64(PHILOX_MULTIPLIERS[0]), c2 * np.uint64(PHILOX_MULTIPLIERS[1])
        c0, c1, c2, c3 = (p1 >> half) ^ c1 ^ k0, p1 & low, (p0 >> half) ^ c3 ^ k1, p0 & low
    return c0, c1, c2, c3


def skip(counter: int, blocks: int) -> int:
    """The 128-bit ``counter`` after TensorFlow's ``PhiloxRandom::Skip`` of a uint64 number of blocks.

    Word by word as there: where the carry out of word 0 wraps the upper half of ``blocks`` from 2**32 - 1 to
    0, the carry into word 2 is lost. That happens only with the negative counts of :func:`stream_start`.
    """
    low, high = blocks & WORD, blocks >> 32
    c0, c1, c23 = counter & WORD, counter >> 32 & WORD, counter >> 64
    c0 = (c0 + low) & WORD
    high = (high + (c0 < low)) & WORD
    c1 = (c1 + high) & WORD
    c23 = (c23 + (c1 < high)) % 2**64
    return c23 << 64 | c1 << 32 | c0


def stream_start(seed2: int, call: int, num_sampled: int) -> int:
    """The 128-bit counter at which call number ``call`` (from 0) of one sampler begins to draw.

    TensorFlow reserves ``2048 S`` words, hence ``512 S`` blocks, per call: ``seed2 * 2**64 + 512 S call``.
    Its product is an int32, so for 2**20 <= S < 2**21 it is negative and the counter steps back; that is
    reproduced. For S >= 2**21 (where TensorFlow would repeat itself at multiples of 2**21) the exact product
    is used.
    """
    if not 2**20 <= num_sampled < 2**21:
        return ((seed2 % 2**64 << 64) + 512 * num_sampled * call) % 2**128
    wrapped_words = WORDS_RESERVED_PER_SAMPLE * num_sampled - 2**32
    blocks = -(-(wrapped_words + 3) // 4)  # C++ division rounds towards zero
    counter = seed2 % 2**64 << 64
    for _ in range(call):
        counter = skip(counter, blocks % 2**64)
    return counter
