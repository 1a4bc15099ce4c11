"""The distributions of candidate samplers: draws from random words, probabilities of classes.

Sources: ``range_sampler.cc``, ``distribution_sampler.cc`` and ``weighted_picker.cc`` of TensorFlow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnce.reference._random import WORD, philox4x32, stream_start

Floats32: TypeAlias = NDArray[np.float32]
Floats64: TypeAlias = NDArray[np.float64]
Ids: TypeAlias = NDArray[np.int64]


class Distribution(Protocol):
    def draws(self, seed: int, seed2: int, call: int, num_sampled: int) -> Iterator[int]:
        """The classes that call number ``call`` of a sampler draws, one after the other, without end."""
        ...

    def probability(self, ids: ArrayLike) -> Floats32:
        """Of each class in one draw, rounded to float32; the shape of ``ids``."""
        ...

    def exact_probability(self, ids: ArrayLike) -> Floats64:
        """The same in float64, not rounded."""
        ...


# ---- random words ------------------------------------------------------------------------------------------


def random_words(seed: int, seed2: int, call: int, num_sampled: int, first: int, blocks: int) -> NDArray[np.uint64]:
    """The words of the Philox blocks ``[first, first + blocks)`` of a call, ``[4 blocks]``."""
    start = (stream_start(seed2, call, num_sampled) + first) % 2**128
    block = np.arange(blocks, dtype=np.uint64)
    low = np.uint64(start % 2**64) + block
    high = np.uint64(start >> 64) + (low < block).astype(np.uint64)
    key = (seed & WORD, seed >> 32 & WORD)
    return np.stack(philox4x32((low & WORD, low >> 32, high & WORD, high >> 32), key), axis=1).ravel()


def word_stream(seed: int, seed2: int, call: int, num_sampled: int) -> Iterator[int]:
    """The 32-bit words of a call, one at a time."""
    first, blocks = 0, 64
    while True:
        yield from random_words(seed, seed2, call, num_sampled, first, blocks).tolist()
        first, blocks = first + blocks, min(2 * blocks, 2**16)


def uniform_integer(words: Iterator[int], n: int, bits: int) -> int:
    """An exactly uniform integer in ``[0, n)`` from integers of 32 or 64 bits, the low word first.

    The lowest ``2**bits mod n`` of them are rejected, so that every remainder is equally likely.
    """
    lowest = 0 if n & (n - 1) == 0 else (2**bits - 1) % n + 1
    while True:
        r = next(words)
        if bits == 64:
            r |= next(words) << 32
        if r >= lowest:
            return r % n


# ---- inverse of a distribution function --------------------------------------------------------------------


def uniform_numbers(seed: int, seed2: int, call: int, num_sampled: int, count: int) -> Floats64:
    """The first ``count`` numbers u in [0, 1) of call number ``call``.

    Number i takes words ``2 (i mod 2)`` and the next of Philox block ``i div 2``, the first word giving the high bits
    of ``u = ((w0 mod 2**20) 2**32 + w1) / 2**52``.
    """
    words = random_words(seed, seed2, call, num_sampled, 0, (count + 1) // 2).reshape(-1, 2)
    return ((words[:count, 0] & 0xFFFFF) << 32 | words[:count, 1]).astype(np.float64) * 2.0**-52


class InverseCdf:
    """A distribution whose draw is a function of one uniform number, in float64.

    ``ids(u)`` are the classes that the numbers u ``[n]`` in [0, 1) draw; ``probabilities(k)`` those of the classes k,
    which are float64, in their shape, by the formula that is then rounded; ``exact_probabilities`` by a better one, if
    that is too rough.
    """

    def __init__(
        self,
        ids: Callable[[Floats64], Ids],
        probabilities: Callable[[Floats64], Floats64],
        exact_probabilities: Callable[[Floats64], Floats64] | None = None,
    ) -> None:
        self.ids, self.probabilities = ids, probabilities
        self.exact_probabilities = exact_probabilities or probabilities

    def draws(self, seed: int, seed2: int, call: int, num_sampled: int) -> Iterator[int]:
        drawn, count = 0, num_sampled
        while True:
            yield from self.ids(uniform_numbers(seed, seed2, call, num_sampled, count)[drawn:]).tolist()
            drawn, count = count, 2 * count

    def probability(self, ids: ArrayLike) -> Floats32:
        return self.probabilities(np.asarray(ids, np.int64).astype(np.float64)).astype(np.float32)

    def exact_probability(self, ids: ArrayLike) -> Floats64:
        return self.exact_probabilities(np.asarray(ids, np.int64).astype(np.float64))


# ---- log-uniform -------------------------------------------------------------------------------------------


class LogUniform(InverseCdf):
    """``p(k) = log((k + 2) / (k + 1)) / log(V + 1)``.

    A draw is ``k = floor(exp(u log(V + 1))) - 1 (mod V)``, the inverse of the distribution function ``log(k + 2) /
    log(V + 1)``. ``math.exp`` is the C library's, as in TensorFlow.
    """

    def __init__(self, range_max: int) -> None:
        log_range = math.log1p(range_max)
        super().__init__(
            lambda u: np.array([(int(math.exp(x)) - 1) % range_max for x in (u * log_range).tolist()], np.int64),
            lambda k: np.log((k + 2.0) / (k + 1.0)) / log_range,
            lambda k: np.log1p(1.0 / (k + 1.0)) / log_range,
        )


def log_uniform_draws(seed: int, seed2: int, call: int, num_sampled: int, range_max: int, count: int) -> Ids:
    """The first ``count`` draws (before any rejection) of call number ``call``, as int64 ``[count]``."""
    return LogUniform(range_max).ids(uniform_numbers(seed, seed2, call, num_sampled, count))


def log_uniform_probability(ids: ArrayLike, range_max: int) -> Floats32:
    """Of each class in one draw, rounded once to float32; the shape of ``ids``."""
    return LogUniform(range_max).probability(ids)


# ---- uniform -----------------------------------------------------------------------------------------------


class Uniform:
    def __init__(self, range_max: int) -> None:
        self.range_max = range_max

    def draws(self, seed: int, seed2: int, call: int, num_sampled: int) -> Iterator[int]:
        words = word_stream(seed, seed2, call, num_sampled)
        while True:
            yield uniform_integer(words, self.range_max, 64)

    def probability(self, ids: ArrayLike) -> Floats32:
        return np.full(np.shape(ids), 1.0 / self.range_max, np.float32)

    def exact_probability(self, ids: ArrayLike) -> Floats64:
        return np.full(np.shape(ids), 1.0 / self.range_max)


# ---- unigram -----------------------------------------------------------------------------------------------


def unigram_weights(
    unigrams: ArrayLike, distortion: float = 1.0, num_reserved_ids: int = 0, num_shards: int = 1, shard: int = 0
) -> Floats32:
    """Weights ``[V]``: of the shard's reserved ids 0, then its unigrams to the power ``distortion``, in float32.

    Word k belongs to shard ``k mod num_shards``. The first unigram is word number r, r being how many reserved
    ids the shard has, as in TensorFlow (not ``num_reserved_ids``).
    """
    weights = [np.float32(0) for word in range(num_reserved_ids) if word % num_shards == shard]
    for word, unigram in enumerate(np.asarray(unigrams, np.float32), len(weights)):
        if word % num_shards == shard:
            weights.append(np.float32(math.pow(unigram, np.float32(distortion))))
    return np.array(weights, np.float32)


def alias_table(weights: Floats32, float32_sums: bool) -> tuple[Floats32, Ids]:
    """Walker's table: index i stands for class i with probability ``prob[i]``, else for class ``alias[i]``.

    ``share[i]``, n times the probability of class i, averages 1. As long as there are shares below and above 1,
    the last of those below is filled up by the last of those above. Shares are float64 quotients of the float32
    product ``w n`` by the float64 sum; above 2**24 classes of the exact product, unless ``float32_sums``.
    """
    n = len(weights)
    exact = n > 2**24 and not float32_sums
    products = weights.astype(np.float64) * n if exact else (weights * np.float32(n)).astype(np.float64)
    total = 0.0
    for weight in weights.tolist():
        total += weight
    share = (products / total).tolist()
    prob, alias = np.ones(n, np.float32), np.arange(n)
    low: list[int] = []
    high: list[int] = []
    for i in range(n):
        (low if share[i] < 1 else high).append(i)
    while low and high:
        poor, rich = low.pop(), high.pop()
        prob[poor], alias[poor] = share[poor], rich
        share[rich] -= 1 - share[poor]
        (low if share[rich] < 1 else high).append(rich)
    return prob, alias


class Unigram:
    """Weights with an alias table.

    TensorFlow adds the weights up in float32, one by one. Unless ``float32_sums``, their float64 sum is taken instead
    where the two differ by more than 2**-20 of it.
    """

    def __init__(
        self,
        unigrams: ArrayLike,
        distortion: float = 1.0,
        num_reserved_ids: int = 0,
        num_shards: int = 1,
        shard: int = 0,
        float32_sums: bool = True,
    ) -> None:
        self.weights = unigram_weights(unigrams, distortion, num_reserved_ids, num_shards, shard)
        self.total = np.float64(np.add.accumulate(self.weights)[-1])  # one by one, in float32
        self.exact_total = math.fsum(self.weights.tolist())
        if not float32_sums and abs(self.total - self.exact_total) > 2**-20 * self.exact_total:
            self.total = np.float64(self.exact_total)
        self.prob, self.alias = alias_table(self.weights, float32_sums)

    def draws(self, seed: int, seed2: int, call: int, num_sampled: int) -> Iterator[int]:
        words = word_stream(seed, seed2, call, num_sampled)
        while True:
            f = (next(words) & 0x7FFFFF) * 2.0**-23
            i = uniform_integer(words, len(self.weights), 32)
            yield i if f < self.prob[i] else int(self.alias[i])

    def probability(self, ids: ArrayLike) -> Floats32:
        return np.asarray(self.weights[np.asarray(ids, np.int64)] / self.total, np.float32)

    def exact_probability(self, ids: ArrayLike) -> Floats64:
        return self.weights[np.asarray(ids, np.int64)].astype(np.float64) / self.exact_total


# ---- learned unigram ---------------------------------------------------------------------------------------


class LearnedUnigram:
    def __init__(self, weights: NDArray[np.int32]) -> None:
        self.weights = weights.copy()
        self.sums = np.cumsum(weights, dtype=np.int64)

    def draws(self, seed: int, seed2: int, call: int, num_sampled: int) -> Iterator[int]:
        words = word_stream(seed, seed2, call, num_sampled)
        while True:
            yield int(np.searchsorted(self.sums, uniform_integer(words, int(self.sums[-1]), 32), side="right"))

    def probability(self, ids: ArrayLike) -> Floats32:
        return self.weights[np.asarray(ids, np.int64)].astype(np.float32) / np.float32(self.sums[-1])

    def exact_probability(self, ids: ArrayLike) -> Floats64:
        return self.weights[np.asarray(ids, np.int64)] / float(self.sums[-1])
