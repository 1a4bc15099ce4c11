#!/usr/bin/env python3
"""Recommendations from sessions: item vectors, trained as if items were words, and how often they are right.

    python examples/sessions.py

The log is synthetic: items of several categories, some far more popular than others, and visitors who mostly go on to
an item like the one before. The vectors know none of this but the sessions. Measured: of held-out sessions, how often
the item that came last is among the ten most popular ones, among the ten whose vectors are nearest to that of the item
before, and among the ten that the model expects after it.

Shape letters: V items, N sessions of L items.
"""

from __future__ import annotations

import argparse
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

import fastnce
from fastnce.word2vec import Word2Vec

Items = NDArray[np.int64]
V, CATEGORIES, L = 2_000, 40, 8
SHOWN = 10


class Log(NamedTuple):
    """Sessions of a shop."""

    sessions: Items
    """``[N, L]`` ids of items."""
    categories: Items
    """``[V]``: the category of each item."""


def synthetic_log(count: int, rng: np.random.Generator) -> Log:
    """Sessions by a random walk: the next item is likely if it is popular, and like the one before."""
    categories = rng.integers(CATEGORIES, size=V)
    tastes = rng.normal(0, 1, (CATEGORIES, 8))[categories] + rng.normal(0, 0.5, (V, 8))  # what an item is like
    tastes /= np.linalg.norm(tastes, axis=1, keepdims=True)
    popularity = rng.permutation(1 / np.arange(1, V + 1) ** 0.8)  # Zipf's law
    likely = popularity * np.exp(8 * tastes @ tastes.T)
    np.fill_diagonal(likely, 0)
    up_to = np.cumsum(likely, axis=1)
    sessions = np.empty((count, L), np.int64)
    sessions[:, 0] = rng.choice(V, count, p=popularity / popularity.sum())
    for place in range(1, L):
        before = sessions[:, place - 1]
        drawn = rng.random(count) * up_to[before, -1]
        sessions[:, place] = [np.searchsorted(up_to[i], x) for i, x in zip(before, drawn, strict=True)]
    return Log(sessions, categories)


def hit_rate(shown: Items, sessions: Items) -> float:
    """How often the last item of a session is among those ``[V, 10]`` that are shown for the one before."""
    before, last = sessions[:, -2], sessions[:, -1]
    return float((shown[before] == last[:, None]).any(axis=1).mean())


def shown_by(model: Word2Vec) -> dict[str, Items]:
    """For each item ``[V, 10]`` others: those of similar vectors, and those that the model expects next."""
    items = np.array(model.wv.index_to_key)
    unit, counts = model.wv.unit_vectors(), model.wv.counts
    itself = fastnce.Ragged(np.arange(len(items)), np.arange(len(items) + 1))
    _, alike = fastnce.top_k(unit, None, unit, SHOWN, itself)
    # Negative sampling learns v . u = log p(context | item) - log(k q(context)), q being counts ** 0.75.
    bias = 0.75 * np.log(counts).astype(np.float32)
    _, following = fastnce.top_k(model.outputs, bias, model.wv.vectors, SHOWN, itself)
    by_item = np.argsort(items)
    return {"of similar vectors": items[alike][by_item], "expected next": items[following][by_item]}


def main() -> None:
    """Make a log, train on nine tenths of it, measure on the rest."""
    parser = argparse.ArgumentParser(description="Item vectors from sessions, and their hit rate.")
    parser.add_argument("--sessions", type=int, default=50_000, help="size of the log (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the log and of the training (default: %(default)s)")
    args = parser.parse_args()
    log = synthetic_log(args.sessions, np.random.default_rng(args.seed))
    train, test = log.sessions[args.sessions // 10 :], log.sessions[: args.sessions // 10]
    print(f"{len(train):,} sessions of {L} items to train, {len(test):,} to test; {V:,} items")

    # An item is a word, a session a paragraph. One session of all items gives each of them a vector.
    model = Word2Vec([*train, np.arange(V)], vector_size=32, window=3, min_count=1, sample=0, epochs=10, seed=args.seed)
    popular = np.argsort(-np.bincount(train.ravel(), minlength=V))[:SHOWN]
    for name, shown in {"most popular": np.tile(popular, (V, 1)), **shown_by(model)}.items():
        same = (log.categories[shown] == log.categories[:, None]).mean()
        print(f"items {name + ':':20} hit rate@{SHOWN} {hit_rate(shown, test):.3f}, {same:4.0%} of the same category")


if __name__ == "__main__":
    main()
