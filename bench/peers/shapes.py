"""Named shapes and the seeded problems that every worker builds for itself.

Letters: B examples, D width, V classes, T true classes per example, S sampled classes. Each worker draws from
the same seed, so that no table has to travel between processes; `agreement.py` checks that their results agree.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]

# The losses that are measured, by TensorFlow's names.
NCE, SOFTMAX = "nce_loss", "sampled_softmax_loss"
# Calls cycle through this many batches, so that none finds its own examples and true rows warm in L1 and L2.
BATCHES = 8
SEED = 20
# Tables repeat after so many rows, far more than a cache holds: contents do not matter to time, and random numbers
# for a hundred million rows would take a minute.
BLOCK_ROWS = 1 << 16
PAGE_BYTES = 4096


@dataclass(frozen=True)
class Shape:
    """One problem size, and what its table of weights is kept as."""

    V: int
    D: int
    B: int
    T: int
    S: int
    table: str = "float32"
    """float32, bfloat16 (bits as uint16, which only fastnce takes), or memmap: float32 in a read-only file."""

    @property
    def flops(self) -> float:
        """Of the three products, a multiply-add counting two; the logistic is not counted."""
        return 6.0 * self.B * (self.S + self.T) * self.D

    @property
    def least_bytes(self) -> float:
        """What has to be moved at least: table rows and inputs in, their gradients out, float32."""
        return 8.0 * (self.B * (self.T + 1) + self.S) * self.D


SHAPES = {
    "w2v": Shape(V=50_000, D=128, B=128, T=1, S=64),
    "w2v_big": Shape(V=100_000, D=128, B=4_096, T=1, S=64),
    "sgns": Shape(V=100_000, D=128, B=1_024, T=1, S=1_024),
    "lm": Shape(V=800_000, D=512, B=2_560, T=1, S=8_192),
    "recsys": Shape(V=2_000_000, D=64, B=8_192, T=1, S=4_096),
    "multi": Shape(V=200_000, D=256, B=512, T=5, S=1_024),
}
# Next to no arithmetic: what is left of a call's time is the cost of calling.
MINIMAL = Shape(V=10, D=1, B=1, T=1, S=1)


class Batch(NamedTuple):
    """labels [B, T], inputs [B, D]."""

    labels: Ids
    inputs: Floats


class Candidates(NamedTuple):
    """ids [S], expected counts of the true classes [B, T] and of the sampled ones [S]."""

    ids: Ids
    true_counts: Floats
    sampled_counts: Floats


class Case:
    """The inputs of one shape for one loss: batches, and on demand the table and a fixed sample for checks."""

    def __init__(self, shape: Shape, loss: str = NCE) -> None:
        self.shape = shape
        self.loss = loss
        rng = np.random.default_rng(SEED)
        self.batches = [
            Batch(
                log_uniform(rng, shape.V, shape.B * shape.T).reshape(shape.B, shape.T),
                uniform(rng, (shape.B, shape.D), 1.0),
            )
            for _ in range(BATCHES)
        ]

    def table(self) -> tuple[NDArray[Any], Floats]:
        """weights [V, D] and biases [V], scaled for logits of standard deviation one. Not kept here."""
        rng = np.random.default_rng(SEED + 1)
        V, D = self.shape.V, self.shape.D
        rows = uniform(rng, (min(V, BLOCK_ROWS), D), 3.0 / D**0.5)
        biases = repeat(uniform(rng, (len(rows),), 0.5), V)
        match self.shape.table:
            case "float32":
                return repeat(rows, V), biases
            case "bfloat16":
                return repeat((rows.view(np.uint32) >> 16).astype(np.uint16), V), biases
            case "memmap":
                return mapped(rows, V), biases
            case unknown:
                raise ValueError(f"table {unknown!r}")

    def candidates(self) -> Candidates:
        """A unique log-uniform sample and its expected counts, for the first batch."""
        V, S = self.shape.V, self.shape.S
        ids, tries = unique_log_uniform(np.random.default_rng(SEED + 2), V, S)

        def expected_count(k: Ids) -> Floats:
            p = log_uniform_probability(k, V)
            return (S * p if tries == S else -np.expm1(tries * np.log1p(-p))).astype(np.float32)

        return Candidates(ids, expected_count(self.batches[0].labels), expected_count(ids))


def uniform(rng: np.random.Generator, size: tuple[int, ...], bound: float) -> Floats:
    """Uniform in [-bound, bound)."""
    values = rng.random(size, dtype=np.float32)
    values -= np.float32(0.5)
    values *= np.float32(2 * bound)
    return values


def repeat(block: NDArray[Any], n: int) -> NDArray[Any]:
    """The first n rows of the block repeated without end."""
    rows = np.empty((n, *block.shape[1:]), block.dtype)
    for start in range(0, n, len(block)):
        rows[start : start + len(block)] = block[: n - start]
    return rows


def mapped(block: NDArray[Any], n: int) -> NDArray[Any]:
    """The same as a read-only map of a file that disappears with it, every page of it already read once."""
    with tempfile.TemporaryFile() as file:
        for start in range(0, n, len(block)):
            block[: n - start].tofile(file)
        file.flush()
        rows = np.memmap(file, block.dtype, "r", shape=(n, *block.shape[1:]))
    rows[:: max(1, PAGE_BYTES // rows.strides[0])].max(axis=0)
    return rows


def log_uniform(rng: np.random.Generator, V: int, n: int) -> Ids:
    """Zipfian ids [n] by the inverse CDF; the modulo guards against exp() rounding up to V + 1."""
    ids: Ids = np.exp(rng.random(n) * np.log1p(V)).astype(np.int64) - 1
    return ids % V


def log_uniform_probability(ids: Ids, V: int) -> NDArray[np.float64]:
    """Probability of each id in a single log-uniform draw."""
    probability: NDArray[np.float64] = np.log1p(1.0 / (ids + 1.0)) / np.log1p(V)
    return probability


def unique_log_uniform(rng: np.random.Generator, V: int, S: int) -> tuple[Ids, int]:
    """The first S distinct values of a stream of draws, and the number of draws that took."""
    draws = log_uniform(rng, V, 2 * S)
    while len(first := np.unique(draws, return_index=True)[1]) < S:
        draws = np.concatenate([draws, log_uniform(rng, V, len(draws))])
    kept = np.sort(first)[:S]
    return draws[kept], int(kept[-1]) + 1
