"""The twins of top_k and rank_of_labels."""

from __future__ import annotations

import numpy as np
import pytest

from fastnce import Ragged, reference

BATCH, DIM, CLASSES = 6, 3, 40
EXCLUDE = Ragged(np.array([3, 9, 9, 0, 39, 1]), np.array([0, 3, 3, 4, 5, 6, 6]))


def tables(ties=False):
    """Scores are distinct, or small integers of which many are equal."""
    rng = np.random.default_rng(0)

    def draw(*shape):
        return rng.integers(-2, 3, shape).astype(np.float64) if ties else rng.standard_normal(shape)

    return draw(CLASSES, DIM), draw(CLASSES), draw(BATCH, DIM)


def scores(ties=False):
    weights, biases, inputs = tables(ties)
    return inputs @ weights.T + biases


def list_of(lists, b):
    return [] if lists is None else lists.values[lists.offsets[b] : lists.offsets[b + 1]].tolist()


# ---- top k ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exclude", [None, EXCLUDE], ids=["all", "excluded"])
@pytest.mark.parametrize("k", [0, 1, 7, CLASSES])
def test_top_k_is_the_head_of_a_sort_by_falling_score_then_id(k, exclude):
    weights, biases, inputs = tables(ties=True)
    best, ids = reference.top_k(weights, biases, inputs, k, exclude)
    assert best.shape == ids.shape == (BATCH, k)
    assert ids.dtype == np.int64
    for b, row in enumerate(scores(ties=True).tolist()):
        pairs = sorted((-score, i) for i, score in enumerate(row) if i not in list_of(exclude, b))[:k]
        expected = pairs + [(np.inf, -1)] * (k - len(pairs))
        np.testing.assert_array_equal(ids[b], [i for _, i in expected])
        np.testing.assert_array_equal(best[b], [-score for score, _ in expected])


def test_top_k_of_scores_that_are_not_finite():
    weights = np.array([np.nan, -np.inf, 1.0, np.inf, np.nan])[:, np.newaxis]
    best, ids = reference.top_k(weights, None, np.ones((1, 1)), 5)
    np.testing.assert_array_equal(best, [[np.inf, 1.0, -np.inf, -np.inf, -np.inf]])
    np.testing.assert_array_equal(ids, [[3, 2, 1, -1, -1]])


def test_top_k_of_fewer_classes_than_k():
    best, ids = reference.top_k(np.array([[1.0], [2.0]]), None, np.ones((1, 1)), 4)
    np.testing.assert_array_equal(best, [[2.0, 1.0, -np.inf, -np.inf]])
    np.testing.assert_array_equal(ids, [[1, 0, -1, -1]])


# ---- ranks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exclude", [None, EXCLUDE], ids=["all", "excluded"])
@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "ties"])
def test_a_rank_is_the_mean_place_in_a_sort_among_those_that_tie(ties, exclude):
    weights, biases, inputs = tables(ties)
    labels = np.array([[3, 5], [0, 39], [7, 0], [12, 13], [1, 1], [20, 2]])  # some are excluded, and stand all the same
    ranks = reference.rank_of_labels(weights, biases, labels, inputs, exclude)
    for (b, t), label in np.ndenumerate(labels):
        left = [i for i in range(CLASSES) if i == label or i not in list_of(exclude, b)]
        row = scores(ties)[b, left]
        places = 1 + np.flatnonzero(np.sort(-row) == -row[left.index(label)])
        assert ranks[b, t] == places.mean()
    assert ties == any(rank % 1 for rank in ranks.ravel())


def test_a_label_is_among_the_k_best_if_its_rank_is_at_most_k():
    weights, biases, inputs = tables()
    labels = np.arange(BATCH * 4).reshape(BATCH, 4)
    ranks = reference.rank_of_labels(weights, biases, labels, inputs, EXCLUDE)
    _, ids = reference.top_k(weights, biases, inputs, 10, EXCLUDE)
    excluded = np.array([[label in list_of(EXCLUDE, b) for label in row] for b, row in enumerate(labels.tolist())])
    is_best = (labels[:, :, np.newaxis] == ids[:, np.newaxis]).any(axis=2)
    assert is_best.any()
    np.testing.assert_array_equal(is_best, (ranks <= 10) & ~excluded)


def test_ranks_have_the_shape_of_the_labels():
    weights, biases, inputs = tables()
    matrix = np.array([[3, 5], [0, 39], [7, -1], [-1, -1], [1, 1], [20, 2]])
    ranks = reference.rank_of_labels(weights, biases, matrix, inputs, padding=-1)
    assert ranks.dtype == np.float64
    np.testing.assert_array_equal(np.isnan(ranks), matrix == -1)
    for t in range(2):
        np.testing.assert_array_equal(
            reference.rank_of_labels(weights, biases, matrix[:, t], inputs, padding=-1), ranks[:, t]
        )
    is_entry = np.array([[True, True], [True, False], [True, True], [False, False], [True, True], [True, False]])
    lists = Ragged(matrix[is_entry], np.array([0, 2, 3, 5, 5, 7, 8]))
    np.testing.assert_array_equal(reference.rank_of_labels(weights, biases, lists, inputs, padding=-1), ranks[is_entry])


def test_scores_that_are_not_finite():
    """A label with one has no rank; of the others inf is above, -inf and NaN are not."""
    weights = np.array([np.nan, -np.inf, 1.0, np.inf, 2.0])[:, np.newaxis]
    ranks = reference.rank_of_labels(weights, None, np.array([[0, 1, 2, 3, 4]]), np.ones((1, 1)))
    np.testing.assert_array_equal(ranks, [[np.nan, np.nan, 3.0, np.nan, 2.0]])


@pytest.mark.parametrize("batch", [1, 6])
def test_classes_with_equal_rows_tie_exactly(batch):
    """Which products of matrices and vectors do not grant: the last rows of a table are summed in another order."""
    rng = np.random.default_rng(0)
    weights, inputs = np.tile(rng.standard_normal(67), (67, 1)), rng.standard_normal((batch, 67))
    ranks = reference.rank_of_labels(weights, None, np.arange(batch), inputs)
    np.testing.assert_array_equal(ranks, np.full(batch, 1 + (67 - 1) / 2))
    _, ids = reference.top_k(weights, None, inputs, 67)
    np.testing.assert_array_equal(ids, np.tile(np.arange(67), (batch, 1)))


@pytest.mark.parametrize("strategy", ["div", "mod"])
def test_tables_may_be_in_shards(strategy):
    weights, biases, inputs = tables()
    tables_of_3 = [
        [table[i::3] for i in range(3)] if strategy == "mod" else np.array_split(table, 3)
        for table in (weights, biases)
    ]
    labels = np.arange(BATCH)
    np.testing.assert_array_equal(
        reference.rank_of_labels(*tables_of_3, labels, inputs, partition_strategy=strategy),
        reference.rank_of_labels(weights, biases, labels, inputs),
    )
    np.testing.assert_array_equal(
        reference.top_k(*tables_of_3, inputs, 5, partition_strategy=strategy)[1],
        reference.top_k(weights, biases, inputs, 5)[1],
    )
