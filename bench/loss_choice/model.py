"""A small language model in NumPy, the next word from the three before, its output layer trained by any sampled loss.

Shape letters: V words, D width, B examples of a batch, J words of context.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

import fastnce

sys.path.append(str(Path(__file__).parents[2] / "examples"))
from word2vec_numpy import SHIPPED_CORPUS, Table, read_corpus, sum_runs

Ids = NDArray[np.int64]
Floats = NDArray[np.float32]
Gradients = tuple[Floats, tuple[Ids, Floats, Floats]]
Loss = Callable[[Floats, Floats, Ids, Floats], Gradients]
"""(weights, biases, labels, inputs) to the gradients of inputs and of rows (ids, weights, biases)."""

MIN_COUNT = 3
HELD_OUT = 20  # every 20th paragraph
CONTEXT = 3  # J
WIDTH = 64  # D
BATCH = 512  # B
EVALUATED = 1 << 12  # examples at a time


class Examples(NamedTuple):
    contexts: Ids
    """``[N, J]``, the nearest word first."""
    following: Ids
    """``[N]``."""

    def batches(self, rng: np.random.Generator) -> Iterator[Examples]:
        """In random order; without the rest that does not fill a batch."""
        order = rng.permutation(len(self.following))
        for start in range(0, len(order) - BATCH + 1, BATCH):
            here = order[start : start + BATCH]
            yield Examples(self.contexts[here], self.following[here])


class Data(NamedTuple):
    counts: Ids
    """``[V]``, falling: how often each word occurs in the training text."""
    train: Examples
    held_out: Examples


def read_data(path: Path = SHIPPED_CORPUS) -> Data:
    """Examples within paragraphs; ids are ranks in the training text."""
    corpus = read_corpus(path, MIN_COUNT)
    is_held_out = corpus.paragraphs % HELD_OUT == 0
    counts = np.bincount(corpus.ids[~is_held_out], minlength=len(corpus.words))
    rank = np.empty(len(counts), np.int64)
    by_frequency = np.argsort(-counts, kind="stable")
    rank[by_frequency] = np.arange(len(counts))
    ids = rank[corpus.ids]
    places = np.arange(CONTEXT, len(ids))
    places = places[corpus.paragraphs[places] == corpus.paragraphs[places - CONTEXT]]
    contexts = ids[places[:, None] - np.arange(1, CONTEXT + 1)]
    chosen = is_held_out[places]
    parts = (Examples(contexts[which], ids[places[which]]) for which in (~chosen, chosen))
    # A held-out word may be absent from the training text: it still has a class.
    return Data(np.maximum(counts[by_frequency], 1), *parts)


class Model:
    """``logit[k] = (sum_j position[j] * embedding[word j]) . weight[k] + bias[k]``: a log-bilinear model."""

    def __init__(self, counts: Ids, seed: int) -> None:
        rng = np.random.default_rng(seed)
        classes = len(counts)
        self.embeddings = Table(rng.normal(0, WIDTH**-0.5, (classes, WIDTH)))
        self.positions = Table(np.ones((CONTEXT, WIDTH)))
        self.weights = Table(np.zeros((classes, WIDTH)))
        self.biases = Table(np.log(counts / counts.sum()))

    def hidden(self, contexts: Ids) -> Floats:
        """``[B, D]``."""
        return np.einsum("bjd,jd->bd", self.embeddings.rows[contexts], self.positions.rows)

    def step(self, examples: Examples, loss: Loss, rate: float) -> None:
        """One step of Adagrad on a batch."""
        contexts, following = examples
        inputs, (ids, weights, biases) = loss(self.weights.rows, self.biases.rows, following, self.hidden(contexts))
        words = contexts.ravel()
        order = np.argsort(words, kind="stable")
        to_words = (inputs[:, None] * self.positions.rows).reshape(len(words), WIDTH)
        to_positions = np.einsum("bd,bjd->jd", inputs, self.embeddings.rows[contexts])
        self.weights.descend(ids, weights, rate)
        self.biases.descend(ids, biases, rate)
        self.embeddings.descend(*sum_runs(words[order], to_words[order]), rate)
        self.positions.descend(np.arange(CONTEXT), to_positions, rate)

    def perplexity(self, examples: Examples, shift: Floats | float = 0.0) -> float:
        """Under the softmax over all classes, of logits with ``shift`` (``[V]``) added."""
        total = 0.0
        classes = len(self.weights.rows)
        tables = (self.weights.rows, (self.biases.rows + shift).astype(np.float32))
        everything = (np.arange(classes), None, None)
        for start in range(0, len(examples.following), EVALUATED):
            here = slice(start, start + EVALUATED)
            batch = (examples.following[here], self.hidden(examples.contexts[here]))
            losses = fastnce.sampled_softmax_loss(*tables, *batch, classes, classes, sampled_values=everything)
            total += float(losses.sum(dtype=np.float64))
        return float(np.exp(total / len(examples.following)))
