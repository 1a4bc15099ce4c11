"""Training of word vectors by the skip-gram model: one thread's steps, with its random numbers."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnce.reference._distributions import Ids, Unigram
from fastnce.reference._functions import sigmoid, softplus
from fastnce.reference._random import WORD, Words, philox4x32
from fastnce.reference._targets import Floats

SkipGramLoss: TypeAlias = Literal["negative_sampling", "nce", "sampled_softmax"]

IDS_AT_ONCE = 8192
"""A part of the text begins at the first paragraph in each so many ids, or with these ids."""
MOST_POSITIONS = 64
MOST_WEIGHT = 3.0
"""Of all gradients that a block gives one row, times the rate: above 8, training always diverged; up to 2.9 never."""
MOST_OWN_WEIGHT = 1.0
"""The same of a word that stands in a block more than once, on its own row: at 1.5, lists in which words take turns
diverged."""


class SkipGramResult(NamedTuple):
    vectors: Floats
    """``[V, D]``, trained."""
    outputs: Floats
    """``[V, D]``, trained."""
    loss: float
    """Of all pairs, summed."""
    pairs: int
    """Of centre and context."""
    kept: int
    """Positions."""


class SkipGram:
    """What follows from the counts of the words ``[V]`` and from the options.

    Shape letters: L positions of a block, S negatives that they share, W the window.
    """

    def __init__(
        self,
        counts: ArrayLike,
        window: int = 5,
        negative: int = 5,
        sample: float = 1e-3,
        ns_exponent: float = 0.75,
        loss: SkipGramLoss = "negative_sampling",
        seed: int = 1,
    ) -> None:
        self.window, self.negative, self.loss, self.seed = window, negative, loss, seed
        self.num_samples = min(32 * math.ceil(negative / 5), 128)
        frequency = np.asarray(counts, np.float64) / np.sum(counts)
        self.keep = np.ones_like(frequency)
        if sample > 0:
            self.keep = np.minimum(1, np.sqrt(sample / frequency) + sample / frequency)
        self.unigram = Unigram(np.asarray(counts, np.float32), ns_exponent, float32_sums=False)
        self.q = self.unigram.exact_probability(np.arange(len(frequency)))
        kept = frequency * self.keep
        self.largest_kept = float((kept / kept.sum()).max())

    def block_positions(self, rate: float) -> int:
        """L: at most 64, and so few that no row gets gradients of a weight above 3, times the rate, in expectation.

        A position has W + 1 pairs on average, and each of them k negatives, of which a share of 1 / S is one row of
        the sampled ones, or that of the commonest word if it comes more than once among them. In a softmax all may
        be one row, a rare word's.
        """
        most = self.negative * max(1 / self.num_samples, self.q.max())
        weight = rate * (self.window + 1) * max(1 if self.loss == "sampled_softmax" else most, self.largest_kept)
        if weight * MOST_POSITIONS <= MOST_WEIGHT + 1e-9:
            return MOST_POSITIONS
        return max(1, math.floor(MOST_WEIGHT / weight + 1e-9))

    def block_repeats(self, rate: float) -> int:
        """How often a word may stand in a block."""
        weight = rate * (self.window + 1)
        if weight * MOST_POSITIONS <= MOST_OWN_WEIGHT:
            return MOST_POSITIONS
        return max(1, math.floor(MOST_OWN_WEIGHT / weight + 1e-9))

    def blocks(self, words: Ids, rate: float) -> list[int]:
        """Where blocks of kept words begin, and where the last one ends."""
        most, repeats, begins = self.block_positions(rate), self.block_repeats(rate), [0]
        for i in range(len(words)):
            own = words[begins[-1] : i]
            if len(own) == most or (own == words[i]).sum() == repeats:
                begins.append(i)
        return [*begins, len(words)] if len(words) else begins

    # ---- random numbers ------------------------------------------------------------------------------------

    def words(self, block: NDArray[np.uint64], stream: int) -> Words:
        """The four words ``[n, 4]`` of each of these Philox blocks ``[n]`` of a stream."""
        high = np.full_like(block, stream)
        key = (self.seed & WORD, self.seed >> 32)
        return np.stack(philox4x32((block & WORD, block >> 32, high, np.zeros_like(high)), key), axis=1)

    def decisions(self, place: int, count: int) -> tuple[Words, Ids]:
        """Of ids ``place`` to ``place + count`` of the run: the word to subsample by, and the reach from 1 to W."""
        at = np.uint64(place) + np.arange(count, dtype=np.uint64)
        words = self.words(at // 2, 0).reshape(count, 2, 2)[np.arange(count), (at % 2).astype(np.int64)]
        return words[:, 0], 1 + (words[:, 1] * np.uint64(self.window) >> np.uint64(32)).astype(np.int64)

    def negatives(self, place: int) -> Ids:
        """The classes ``[S]`` of the block whose first position is id ``place`` of the run."""
        half = self.num_samples // 2
        words = self.words(np.uint64(place) * np.uint64(half) + np.arange(half, dtype=np.uint64), 1).reshape(-1, 2)
        index = (words[:, 1] % len(self.q)).astype(np.int64)
        is_own = (words[:, 0] & 0x7FFFFF) * 2.0**-23 < self.unigram.prob[index]
        return np.where(is_own, index, self.unigram.alias[index])

    # ---- one block -----------------------------------------------------------------------------------------

    def losses(
        self, x: Floats, c: Floats, n: Floats, contexts: Ids, negatives: Ids, centre: Ids
    ) -> tuple[float, Floats, Floats]:
        """The loss of a block, and its derivatives by the logits of pairs ``[P]`` and of negatives ``[L, S]``.

        x are the vectors ``[L, D]``, c and n the outputs of contexts ``[P, D]`` and negatives ``[S, D]``; ``centre`` is
        the position ``[P]`` of each pair.
        """
        u, v = np.einsum("pd,pd->p", x[centre], c), x @ n.T
        if self.loss == "sampled_softmax":
            u = u - np.log(self.num_samples * self.q[contexts])
            v = v - np.log(self.num_samples * self.q[negatives])
            log_sum = np.logaddexp.reduce(v, axis=1)
            of_others = sigmoid(log_sum[centre] - u)
            share = np.bincount(centre, of_others, len(x))
            loss = softplus(log_sum[centre] - u).sum()
            return float(loss), -of_others, share[:, np.newaxis] * np.exp(v - log_sum[:, np.newaxis])
        pairs = np.bincount(centre, minlength=len(x))
        weight = self.negative * pairs[:, np.newaxis] / self.num_samples
        skipped = self.negative * self.q[contexts]  # negatives of a pair that are its context
        if self.loss == "nce":
            u = u - np.log(skipped * len(self.q))
            v = v - np.log(self.negative * self.q[negatives] * len(self.q))
            skipped = np.zeros_like(skipped)
        loss = (softplus(-u) - skipped * softplus(u)).sum() + (weight * softplus(v)).sum()
        return float(loss), -sigmoid(-u) - skipped * sigmoid(u), weight * sigmoid(v)


def windows(paragraph: Ids, reach: Ids) -> Ids:
    """Centre and context ``[P, 2]`` of every pair of kept positions, of which these are paragraphs and reaches."""
    pairs = [
        (i, j)
        for i, far in enumerate(reach.tolist())
        for j in range(max(0, i - far), min(len(reach), i + far + 1))
        if j != i and paragraph[i] == paragraph[j]
    ]
    return np.array(pairs, np.int64).reshape(-1, 2)


def part_begins(ids: Ids) -> list[int]:
    """Where the parts of a text begin, and where the last one ends."""
    begins = []
    for first in range(0, len(ids), IDS_AT_ONCE):
        inside = range(first, min(first + IDS_AT_ONCE, len(ids)))
        begins.append(next((i for i in inside if i == 0 or ids[i - 1] < 0), first))
    return [*begins, len(ids)]


def train_skip_gram(
    model: SkipGram, vectors: ArrayLike, outputs: ArrayLike, ids: ArrayLike, place: int, rates: tuple[float, float]
) -> SkipGramResult:
    """Trains the tables ``[V, D]`` on a piece of text, as one thread does.

    ``ids`` ``[N]`` are words, and -1 at the end of a paragraph; ``place`` is the number of ids that came before in the
    run; the learning rate falls from ``rates[0]`` at the first id to ``rates[1]`` at the last. A block of L kept
    positions is one step: with x vectors of the centres, c outputs of the contexts j of centre i (those of its
    paragraph at most its reach away), n outputs of the S negatives, k negatives for each pair, q their shares::

        u[i,j] = x[i].c[j]    v[i,s] = x[i].n[s]    w[i] = k (contexts of i) / S

        negative_sampling  sum_ij softplus(-u[i,j]) - k q[j] softplus(u[i,j])  +  sum_is w[i] softplus(v[i,s])
        nce                sum_ij softplus(-u'[i,j])  +  sum_is w[i] softplus(v'[i,s]),     u' = u - log(k q V), v' so
        sampled_softmax    sum_ij log(1 + sum_s exp(v"[i,s] - u"[i,j])),              u" = u - log(S q), v" so

    and every row changes by -rate times the derivative of that sum at the values before the step.
    """
    text = np.asarray(ids, np.int64)
    x, y = np.array(vectors, np.float64), np.array(outputs, np.float64)
    total, num_pairs, num_kept = 0.0, 0, 0
    begins = part_begins(text)
    for begin, end in pairwise(begins):
        part = text[begin:end]
        word, reach = model.decisions(place + begin, end - begin)
        paragraph = np.cumsum(part < 0, dtype=np.int64)
        threshold = np.ceil(model.keep * 2.0**32) - 1
        kept = np.flatnonzero((part >= 0) & (word <= threshold[part]))
        pairs = windows(paragraph[kept], reach[kept])
        num_kept, num_pairs = num_kept + len(kept), num_pairs + len(pairs)
        for first, last in pairwise(model.blocks(part[kept], max(rates))):
            centres = part[kept[first:last]]
            mine = pairs[(pairs[:, 0] >= first) & (pairs[:, 0] < last)]
            centre, contexts = mine[:, 0] - first, part[kept[mine[:, 1]]]
            at = begin + int(kept[first])
            negatives = model.negatives(place + at)
            rate = rates[0] + (rates[1] - rates[0]) * at / max(len(text) - 1, 1)
            loss, du, dv = model.losses(x[centres], y[contexts], y[negatives], contexts, negatives, centre)
            dx, dy = np.zeros_like(x), np.zeros_like(y)
            np.add.at(dx, centres[centre], du[:, np.newaxis] * y[contexts])
            np.add.at(dx, centres, dv @ y[negatives])
            np.add.at(dy, contexts, du[:, np.newaxis] * x[centres[centre]])
            np.add.at(dy, negatives, dv.T @ x[centres])
            x, y, total = x - rate * dx, y - rate * dy, total + loss
    return SkipGramResult(x, y, total, num_pairs, num_kept)
