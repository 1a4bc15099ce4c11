"""The twin of the in-batch softmax: its formula, its gradients, and the sampled softmax that it is."""

from __future__ import annotations

import numpy as np
import pytest

from differences import assert_slopes
from fastnce import Ragged, reference

BATCH, DIM, EXTRA = 6, 3, 4


def assert_close(actual, expected):
    """Sums in another order."""
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)


def arrays(seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((n, DIM)) for n in (BATCH, BATCH, EXTRA)]


ITEM_IDS = np.array([7, 3, 7, 5, 10**12, 3])
EXTRA_IDS = np.array([3, 8, 8, 5])
EXCLUDE = Ragged(np.array([5, 8, 7, 7, 7, 3]), np.array([0, 2, 5, 5, 5, 6, 6]))
"""For example 0 classes 5 and 8; for 1 class 7; for 4 class 3."""


def options(extra_items=None, *, ids=True):
    """Everything there is, on a batch with items that repeat."""
    rng = np.random.default_rng(1)
    log_q, extra_log_q = rng.standard_normal(BATCH), rng.standard_normal(EXTRA)
    return {
        "item_ids": ITEM_IDS if ids else None,
        "log_q": log_q,
        "extra": None if extra_items is None else (extra_items, EXTRA_IDS if ids else None, extra_log_q),
        "exclude": EXCLUDE if ids else None,
        "temperature": 0.7,
        "grad_loss": rng.standard_normal(BATCH),
    }


def solve(*arguments, **options):
    return reference.in_batch_softmax_loss_and_grad(*arguments, **options)


def test_is_the_cross_entropy_of_the_diagonal():
    x, items, _ = arrays()
    logits = x @ items.T
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    loss, dx, ditems = solve(x, items)
    assert_close(loss, -np.log(np.diag(p)))
    assert_close(dx, (p - np.eye(BATCH)) @ items)
    assert_close(ditems, (p - np.eye(BATCH)).T @ x)


@pytest.mark.parametrize("ids", [False, True], ids=["no-ids", "ids"])
@pytest.mark.parametrize("with_extra", [False, True], ids=["batch", "extra"])
def test_gradients_are_central_differences(with_extra, ids):
    given = arrays() if with_extra else arrays()[:2]

    def loss_of(which):
        def loss(moved):
            x, items, *extra = [moved if i == which else array for i, array in enumerate(given)]
            return solve(x, items, **options(*extra, ids=ids))[0]

        return loss

    _, *gradients = solve(*given[:2], **options(*given[2:], ids=ids))
    assert len(gradients) == len(given)
    for which, gradient in enumerate(gradients):
        assert_slopes(gradient, loss_of(which), given[which], options()["grad_loss"])


@pytest.mark.parametrize("ids", [False, True], ids=["no-ids", "ids"])
@pytest.mark.parametrize("with_extra", [False, True], ids=["batch", "extra"])
def test_is_a_sampled_softmax_with_the_items_as_its_table(with_extra, ids):
    x, items, extra = arrays()
    given = options(extra if with_extra else None, ids=ids)
    loss, dx, *ditems = solve(x, items, **given)
    table = np.concatenate([items, extra]) if with_extra else items
    count = np.exp(np.concatenate([given["log_q"], given["extra"][2]]) if with_extra else given["log_q"])
    all_ids = np.concatenate([ITEM_IDS, EXTRA_IDS])
    removed = [
        [j for j in range(len(table)) if ids and (all_ids[j] == ITEM_IDS[i] or all_ids[j] in excluded)]
        for i, excluded in enumerate(np.split(EXCLUDE.values, EXCLUDE.offsets[1:-1]))
    ]
    offsets = np.cumsum([0, *map(len, removed)])
    expected, grads = reference.sampled_softmax_loss_and_grad(
        table,
        None,
        np.arange(BATCH),
        x / given["temperature"],
        (np.arange(len(table)), count[:BATCH], count),
        exclude=Ragged(np.concatenate(removed).astype(np.int64), offsets),
        grad_loss=given["grad_loss"],
    )
    assert_close(loss, expected)
    assert_close(dx, grads.inputs / given["temperature"])
    assert_close(np.concatenate(ditems), grads.rows.weights)


def test_an_item_that_is_everywhere_has_no_negatives():
    x, items, _ = arrays()
    for array in solve(x, items, np.full(BATCH, 3)):
        np.testing.assert_array_equal(array, np.zeros_like(array))


def test_an_item_is_never_excluded_from_its_own_example():
    x, items, _ = arrays()
    everything = Ragged(np.tile(np.unique(ITEM_IDS), BATCH), 4 * np.arange(BATCH + 1))
    assert_close(solve(x, items, ITEM_IDS, exclude=everything)[0], np.zeros(BATCH))


def test_logits_far_from_zero_do_not_overflow():
    loss, *_ = solve(np.array([[1e4], [-1e4]]), np.array([[1.0], [-1.0]]), temperature=0.5)
    assert_close(loss, np.zeros(2))
    loss, *_ = solve(np.array([[1e4], [-1e4]]), np.array([[-1.0], [1.0]]), temperature=0.5)
    assert_close(loss, np.full(2, 4e4))
