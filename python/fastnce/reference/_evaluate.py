"""What a table of classes is evaluated by: the best classes, and the ranks of labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fastnce.reference._tables import Table, whole
from fastnce.reference._targets import Floats, Ids, Labels, Lists, Targets, are_listed


def scores_of_all(weights: Table, biases: Table | None, inputs: ArrayLike, partition_strategy: str) -> Floats:
    """``x[b].w[k] + c[k]``, ``[B, V]``.

    One dot product each, so that classes with equal rows tie exactly; a matrix product may sum them in another order.
    """
    x, w = np.asarray(inputs, np.float64), whole(weights, partition_strategy)
    products: Floats = np.vecdot(x[:, np.newaxis], w)
    return products if biases is None else products + whole(biases, partition_strategy)


def top_k(
    weights: Table,
    biases: Table | None,
    inputs: ArrayLike,
    k: int,
    exclude: Lists | None = None,
    *,
    partition_strategy: str = "div",
) -> tuple[Floats, Ids]:
    """The k largest scores of each example ``[B, k]``, falling, and the ids of their classes; ties by ascending id.

    Classes in the list ``exclude[b]``, and those whose score is NaN, are not among them. Where fewer than k are left,
    the rest are -inf with id -1.
    """
    scores = scores_of_all(weights, biases, inputs, partition_strategy)
    batch, num_classes = scores.shape
    classes = np.broadcast_to(np.arange(num_classes), scores.shape)
    is_left = ~(np.isnan(scores) | are_listed(classes, exclude))
    best_scores, best = np.full((batch, k), -np.inf), np.full((batch, k), -1, np.int64)
    for b in range(batch):
        left = np.flatnonzero(is_left[b])
        ids = left[np.argsort(-scores[b, left], kind="stable")][:k]
        best_scores[b, : len(ids)], best[b, : len(ids)] = scores[b, ids], ids
    return best_scores, best


def rank_of_labels(
    weights: Table,
    biases: Table | None,
    labels: Labels,
    inputs: ArrayLike,
    exclude: Lists | None = None,
    padding: int | None = None,
    *,
    partition_strategy: str = "div",
) -> Floats:
    """1 + how many classes score higher than the label + half of those that tie with it, in the shape of the labels.

    Classes in the list ``exclude[b]`` do not compete; the label itself always stands, and the other labels of the
    example compete like any class. A score that is NaN is neither higher nor equal. A label whose score is not finite
    has rank NaN, and so has one equal to ``padding``.
    """
    scores = scores_of_all(weights, biases, inputs, partition_strategy)
    targets = Targets(labels, padding)
    competes = ~are_listed(np.broadcast_to(np.arange(scores.shape[1]), scores.shape), exclude)
    ranks = np.full(targets.ids.shape, np.nan)
    for b, t in np.argwhere(targets.is_true).tolist():
        label = targets.ids[b, t]
        own = scores[b, label]
        others = np.delete(scores[b], label)[np.delete(competes[b], label)]
        if np.isfinite(own):
            ranks[b, t] = 1 + (others > own).sum() + (others == own).sum() / 2
    return targets.in_shape_of_labels(ranks)
