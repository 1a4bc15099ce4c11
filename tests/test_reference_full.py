"""The twins of the losses over all classes: the formulas of textbooks, gradients, properties."""

from __future__ import annotations

import numpy as np
import pytest

from differences import assert_slopes
from fastnce import Ragged, reference

BATCH, DIM, CLASSES = 5, 3, 7
FULL = {"softmax": reference.softmax_loss_and_grad, "sigmoid": reference.sigmoid_loss_and_grad}
EACH = pytest.mark.parametrize("name", FULL)

LABELS = {
    "one": np.array([0, 3, 3, 6, 2]),
    "matrix": np.array([[0, 1], [3, 3], [2, 0], [6, 5], [2, 4]]),
    "padded": np.array([[-1, 1, 1], [-1, -1, -1], [2, 0, -1], [6, 5, 4], [2, -1, 4]]),
    "lists": Ragged(np.array([0, -1, 3, 5, 3, -1, 6, 6]), np.array([0, 2, 5, 5, 6, 8])),
}
EXCLUDE = Ragged(np.array([0, 1, 4, 2, 2, 6, 3]), np.array([0, 3, 3, 5, 6, 7]))


def assert_close(actual, expected):
    """Sums in another order."""
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)


def tables(seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((CLASSES, DIM)), rng.standard_normal(CLASSES), rng.standard_normal((BATCH, DIM))


def solve(name, labels, seed=0, **options):
    weights, biases, inputs = tables(seed)
    return FULL[name](weights, biases, labels, inputs, **options)


def assert_same(actual, expected):
    assert_close(actual[0], expected[0])
    for ours, theirs in zip(actual[1], expected[1], strict=True):
        assert_close(ours, theirs)


def scores():
    weights, biases, inputs = tables()
    return inputs @ weights.T + biases


def label_weights(labels):
    shape = labels.values.shape if isinstance(labels, Ragged) else labels.shape
    return np.random.default_rng(2).uniform(0.2, 2.0, shape)


# ---- formulas as published ---------------------------------------------------------------------------------


def test_softmax_is_the_cross_entropy_of_labels():
    p = np.exp(scores()) / np.exp(scores()).sum(axis=1, keepdims=True)
    loss, _ = solve("softmax", LABELS["one"])
    assert_close(loss, -np.log(p[np.arange(BATCH), LABELS["one"]]))
    loss, _ = solve("softmax", LABELS["matrix"])
    assert_close(loss, -np.log(np.take_along_axis(p, LABELS["matrix"], axis=1)).mean(axis=1))


def test_sigmoid_is_the_binary_cross_entropy_of_every_class():
    target = np.zeros((BATCH, CLASSES))
    np.put_along_axis(target, np.array([[0, 1], [3, 2], [2, 0], [6, 5], [2, 4]]), 1.0, axis=1)
    p = 1 / (1 + np.exp(-scores()))
    loss, _ = solve("sigmoid", np.array([[0, 1], [3, 2], [2, 0], [6, 5], [2, 4]]))
    assert_close(loss, -(target * np.log(p) + (1 - target) * np.log(1 - p)).sum(axis=1))
    loss, _ = solve("sigmoid", np.array([[0, 1], [3, 2], [2, 0], [6, 5], [2, 4]]), true_target="mean")
    assert_close(loss, -(target / 2 * np.log(p) + (1 - target / 2) * np.log(1 - p)).sum(axis=1))


@EACH
def test_is_the_sampled_loss_with_every_class_as_a_sample(name):
    """Where no label stands twice; hits are removed."""
    weights, biases, inputs = tables()
    labels = np.array([[0, 1, -1], [3, -1, -1], [-1, -1, -1], [6, 5, 4], [2, -1, 0]])
    options = {"padding": -1, "exclude": EXCLUDE, "grad_loss": np.arange(-2.0, 3.0)}
    family, target = {"softmax": ("softmax", "mean"), "sigmoid": ("logistic", "one")}[name]
    loss, grads = reference.sampled_loss_and_grad(
        weights,
        biases,
        labels,
        inputs,
        (np.random.default_rng(0).permutation(CLASSES), None, None),
        family=family,
        true_target=target,
        remove_accidental_hits=True,
        **options,
    )
    np.testing.assert_array_equal(grads.rows.ids, np.arange(CLASSES))
    assert_same(solve(name, labels, **options), (loss, (grads.inputs, grads.rows.weights, grads.rows.biases)))


# ---- gradients -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["mean", "one"])
@pytest.mark.parametrize("excluded", [False, True], ids=["all", "excluded"])
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("kind", LABELS)
@EACH
def test_gradients_are_central_differences(name, kind, weighted, excluded, target):
    labels = LABELS[kind]
    factors = np.array([0.5, -1.5, 2.0, 1.0, 0.3])
    options = {
        "true_target": target,
        "padding": -1,
        "grad_loss": factors,
        "label_weights": label_weights(labels) if weighted else None,
        "exclude": EXCLUDE if excluded else None,
    }
    weights, biases, inputs = tables()
    function = FULL[name]
    _, grads = function(weights, biases, labels, inputs, **options)
    assert_slopes(grads.weights, lambda w: function(w, biases, labels, inputs, **options)[0], weights, factors)
    assert_slopes(grads.biases, lambda c: function(weights, c, labels, inputs, **options)[0], biases, factors)
    assert_slopes(grads.inputs, lambda x: function(weights, biases, labels, x, **options)[0], inputs, factors)


@pytest.mark.parametrize("kind", LABELS)
def test_derivatives_of_a_softmax_by_its_logits_sum_to_zero(kind):
    options = {"padding": -1, "label_weights": label_weights(LABELS[kind]), "exclude": EXCLUDE}
    assert_close(solve("softmax", LABELS[kind], **options)[1].biases.sum(), 0.0)


# ---- labels --------------------------------------------------------------------------------------------------


@EACH
def test_true_target_is_the_mean_for_softmax_and_one_for_sigmoid_by_default(name):
    mean, one = (solve(name, LABELS["matrix"], true_target=target) for target in ("mean", "one"))
    assert (mean[0] != one[0]).all()
    assert_same(solve(name, LABELS["matrix"]), {"softmax": mean, "sigmoid": one}[name])


@EACH
def test_a_label_given_twice_adds_target_weight_only(name):
    labels = np.array([[0, 3, 0]] * BATCH)
    once = np.array([[0, 3]] * BATCH)
    weights = np.array([[2.0, 1.0]] * BATCH)
    expected = solve(name, once, label_weights=weights, true_target="one")
    assert_same(solve(name, labels, true_target="one"), expected)
    assert_same(
        solve(name, labels, true_target="mean"),
        solve(name, labels, label_weights=np.full((BATCH, 3), 1 / 3), true_target="one"),
    )


@EACH
def test_lists_are_a_matrix_that_is_padded(name):
    lists = LABELS["lists"]
    matrix = np.array([[0, -1, -1], [3, 5, 3], [-1, -1, -1], [-1, -1, -1], [6, 6, -1]])
    weights = np.arange(1.0, 9.0)
    padded = np.array([[1, np.nan, np.nan], [3, 4, 5], [np.nan] * 3, [np.nan] * 3, [7, 8, np.nan]])
    actual = solve(name, lists, label_weights=weights, padding=-1)
    assert_same(actual, solve(name, matrix, label_weights=padded, padding=-1))


@pytest.mark.parametrize("upstream", [1.0, np.inf, np.nan])
@pytest.mark.parametrize(
    "labels", [np.full((BATCH, 2), -1), Ragged(np.empty(0, np.int64), np.zeros(BATCH + 1, np.int64))]
)
@EACH
def test_without_labels_there_is_neither_loss_nor_gradient(name, labels, upstream):
    loss, grads = solve(name, labels, padding=-1, grad_loss=np.full(BATCH, upstream))
    for array in (loss, *grads):
        np.testing.assert_array_equal(array, np.zeros_like(array))


# ---- classes -------------------------------------------------------------------------------------------------


@EACH
def test_excluded_classes_are_as_if_they_were_not_in_the_table(name):
    weights, biases, inputs = tables()
    exclude = Ragged(np.tile([1, 4, 1], BATCH), 3 * np.arange(BATCH + 1))
    left = np.array([0, 2, 3, 5, 6])
    place = {k: i for i, k in enumerate(left.tolist())}
    labels = np.array([0, 3, 3, 6, 2])
    loss, grads = solve(name, labels, exclude=exclude)
    few = FULL[name](weights[left], biases[left], np.array([place[k] for k in labels.tolist()]), inputs)
    assert_same((loss, (grads.inputs, grads.weights[left], grads.biases[left])), few)
    assert not grads.weights[[1, 4]].any()
    assert not grads.biases[[1, 4]].any()


@EACH
def test_a_label_is_never_excluded(name):
    exclude = Ragged(LABELS["matrix"].ravel(), 2 * np.arange(BATCH + 1))
    assert_same(solve(name, LABELS["matrix"], exclude=exclude), solve(name, LABELS["matrix"]))


@pytest.mark.parametrize("strategy", ["div", "mod"])
@EACH
def test_tables_may_be_in_shards(name, strategy):
    weights, biases, inputs = tables()
    sharded_weights, sharded_biases = (
        [table[i::3] for i in range(3)] if strategy == "mod" else np.array_split(table, 3)
        for table in (weights, biases)
    )
    sharded = FULL[name](sharded_weights, sharded_biases, LABELS["one"], inputs, partition_strategy=strategy)
    assert_same(sharded, solve(name, LABELS["one"]))


@EACH
def test_no_biases_are_zeros(name):
    weights, _, inputs = tables()
    loss, grads = FULL[name](weights, None, LABELS["matrix"], inputs)
    expected_loss, expected = FULL[name](weights, np.zeros(CLASSES), LABELS["matrix"], inputs)
    assert_close(loss, expected_loss)
    assert_close(grads.inputs, expected.inputs)
    assert_close(grads.weights, expected.weights)
    assert grads.biases is None


@EACH
def test_logits_far_from_zero_do_not_overflow(name):
    far = np.array([[1e4], [-1e4], [-1e4]])
    losses = FULL[name](far, None, np.array([0, 1]), np.ones((2, 1)))[0]
    assert_close(losses, [0.0, {"softmax": 2e4, "sigmoid": 2e4}[name]])
