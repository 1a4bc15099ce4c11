"""The twin of the losses with labels as lists, weights of labels, candidates per group, and excluded classes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cases import EVERYTHING, Case, targets_and_negatives
from fastnce import Ragged, reference
from losses import EVERY_LOSS
from rounding import magnitude, naive_float32
from tolerances import Results, assert_accurate


def assert_close(actual, expected):
    """Sums in another order."""
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)


def twin(problem):
    tables = (problem.weights, problem.biases, problem.labels, problem.inputs)
    return reference.sampled_loss_and_grad(*tables, problem.sampled_values, **problem.twin_options())


def assert_same(actual, expected):
    (loss, grads), (expected_loss, expected_grads) = actual, expected
    assert_close(loss, expected_loss)
    assert_close(grads.inputs, expected_grads.inputs)
    np.testing.assert_array_equal(grads.rows.ids, expected_grads.rows.ids)
    assert_close(grads.rows.weights, expected_grads.rows.weights)
    if expected_grads.rows.biases is None:
        assert grads.rows.biases is None
    else:
        assert_close(grads.rows.biases, expected_grads.rows.biases)


def list_of(lists, b):
    return lists.values[lists.offsets[b] : lists.offsets[b + 1]]


def of_example(problem, values, b):
    """What belongs to the labels of example b: a row, or a list."""
    return list_of(Ragged(values, problem.labels.offsets), b) if isinstance(problem.labels, Ragged) else values[b]


@pytest.mark.parametrize("case", targets_and_negatives(8, dtype="float64"), ids=str)
def test_every_example_is_a_batch_of_its_own_labels_and_of_the_candidates_that_are_left(case):
    problem = case.problem()
    loss, grads = twin(problem)
    ids, true_count, sampled_count = problem.sampled_values
    sets, of_set = np.atleast_2d(ids), None if sampled_count is None else np.atleast_2d(sampled_count)
    options = dict(problem.options)
    padding, exclude = options.pop("padding", None), options.pop("exclude", None)
    label_weights = options.pop("label_weights", None)
    removes_hits = options.pop("remove_accidental_hits")
    weights = np.zeros_like(problem.weights)
    biases = np.zeros(problem.num_classes)
    for b in range(problem.batch):
        group = b * len(sets) // problem.batch
        labels = list_of(problem.labels, b) if isinstance(problem.labels, Ragged) else problem.labels[b]
        kept = labels != padding
        if not kept.any():
            assert loss[b] == 0.0
            assert not grads.inputs[b].any()
            continue
        removed = [] if exclude is None else list_of(exclude, b)
        removed = np.concatenate([removed, labels[kept] if removes_hits else []])
        left = ~np.isin(sets[group], removed)
        own_options = {name: value[b : b + 1] if np.ndim(value) else value for name, value in options.items()}
        if label_weights is not None:
            own_options["label_weights"] = of_example(problem, label_weights, b)[kept][np.newaxis]
        alone = replace(
            problem,
            labels=labels[kept][np.newaxis],
            inputs=problem.inputs[b : b + 1],
            sampled_values=(
                sets[group][left],
                None if true_count is None else of_example(problem, true_count, b)[kept][np.newaxis],
                None if of_set is None else of_set[group][left],
            ),
            options={**own_options, "remove_accidental_hits": False},
        )
        one_loss, one = twin(alone)
        assert_close(loss[b], one_loss[0])
        assert_close(grads.inputs[b], one.inputs[0])
        weights[one.rows.ids] += one.rows.weights
        biases[one.rows.ids] += 0 if one.rows.biases is None else one.rows.biases
    assert_close(grads.rows.weights, weights[grads.rows.ids])
    assert not np.delete(weights, grads.rows.ids, axis=0).any()
    if grads.rows.biases is not None:
        assert_close(grads.rows.biases, biases[grads.rows.ids])


@pytest.mark.parametrize("case", targets_and_negatives(4, dtype="float64"), ids=str)
def test_the_names_take_every_option(case):
    problem = case.problem()
    loss, grads = twin(problem)
    np.testing.assert_equal(problem.truth(), (grads.rows.ids, Results.of(loss, grads)))


@pytest.mark.parametrize("case", targets_and_negatives(40, dim=33, sampled=70), ids=str)
def test_a_plain_float32_evaluation_is_accurate(case):
    """Or the rule by which the library is judged would be too strict, or miss a term."""
    problem = case.problem()
    assert_accurate(naive_float32(problem), problem.truth()[1], magnitude(problem))


# ---- lists of labels -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_true", [1, 3])
@pytest.mark.parametrize("loss", EVERY_LOSS, ids=str)
def test_lists_of_one_length_are_a_matrix(loss, num_true):
    case = Case(num_true=num_true, dtype="float64", loss=loss.name, remove_hits=True, label_weights=True)
    problem = replace(case, padded=num_true > 1).problem()
    labels = Ragged(problem.labels.ravel(), num_true * np.arange(6))
    ids, true_count, sampled_count = problem.sampled_values
    flat = (ids, None if true_count is None else true_count.ravel(), sampled_count)
    options = {**problem.options, "label_weights": problem.options["label_weights"].ravel()}
    assert_same(twin(replace(problem, labels=labels, sampled_values=flat, options=options)), twin(problem))


@pytest.mark.parametrize("loss", EVERY_LOSS, ids=str)
def test_empty_lists_are_like_padding(loss):
    """Not like a matrix without columns, whose examples have their negatives."""
    problem = Case(dtype="float64", loss=loss.name).problem()
    ids, _, sampled_count = problem.sampled_values
    samples = (ids, None if sampled_count is None else np.empty(0), sampled_count)
    labels = Ragged(np.empty(0, np.int64), np.zeros(6, np.int64))
    value, grads = twin(replace(problem, labels=labels, sampled_values=samples))
    np.testing.assert_array_equal(grads.rows.ids, np.unique(ids))
    for array in (value, grads.inputs, grads.rows.weights, grads.rows.biases):
        assert not array.any()


@pytest.mark.parametrize("loss", EVERY_LOSS, ids=str)
def test_lists_are_a_matrix_that_is_padded(loss):
    problem = Case(num_true=3, dtype="float64", loss=loss.name, ragged=True, label_weights=True).problem()
    offsets = problem.labels.offsets
    entries = np.arange(3) < np.diff(offsets)[:, np.newaxis]

    def padded(values, filler):
        matrix = np.full(entries.shape, filler, values.dtype)
        matrix[entries] = values
        return matrix

    ids, true_count, sampled_count = problem.sampled_values
    matrix = replace(
        problem,
        labels=padded(problem.labels.values, -1),
        sampled_values=(ids, None if true_count is None else padded(true_count, np.nan), sampled_count),
        options={
            **problem.options,
            "padding": -1,
            "label_weights": padded(problem.options["label_weights"], np.nan),
        },
    )
    assert_same(twin(problem), twin(matrix))


# ---- weights of labels ---------------------------------------------------------------------------------------


def test_a_weighted_label_of_negative_sampling_is_that_many_labels():
    problem = Case(num_true=3, dtype="float64", loss="negative_sampling").problem()
    doubled = replace(problem, labels=np.concatenate([problem.labels, problem.labels[:, :1]], axis=1))
    weighted = replace(problem, options={**problem.options, "label_weights": np.tile([2.0, 1.0, 1.0], (5, 1))})
    assert_same(twin(weighted), twin(doubled))


def test_weights_of_labels_are_the_targets_of_a_softmax():
    """-sum_t q_t log p_t with q = weight / T: T is the number of labels, not the sum of weights."""
    problem = Case(batch=2, num_true=3, dtype="float64", loss="softmax").problem()
    weights = np.array([[2.0, 0.0, 0.5], [1.0, 1.0, 3.0]])
    weighted = replace(problem, options={**problem.options, "label_weights": weights})
    ids, true_count, sampled_count = problem.sampled_values
    scores = problem.inputs @ problem.weights.T + problem.biases
    u = np.take_along_axis(scores, problem.labels, axis=1) - np.log(true_count, dtype=np.float64)
    v = scores[:, ids] - np.log(sampled_count, dtype=np.float64)
    log_p = u - np.log(np.exp(u).sum(axis=1) + np.exp(v).sum(axis=1))[:, np.newaxis]
    assert_close(twin(weighted)[0], -(weights / 3 * log_p).sum(axis=1))


@pytest.mark.parametrize("loss", EVERY_LOSS, ids=str)
def test_weights_of_one_are_no_weights(loss):
    problem = Case(num_true=2, dtype="float64", loss=loss.name).problem()
    ones = replace(problem, options={**problem.options, "label_weights": np.ones((5, 2))})
    assert_same(twin(ones), twin(problem))


def test_with_one_label_weights_may_be_one_for_each_example():
    problem = Case(dtype="float64").problem()
    weights = np.arange(1.0, 6.0)
    flat, column = (
        twin(replace(problem, options={**problem.options, "label_weights": w}))
        for w in (weights, weights[:, np.newaxis])
    )
    assert_same(flat, column)


# ---- candidates of groups ------------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [1, 2, 4, 8])
@pytest.mark.parametrize("loss", EVERY_LOSS, ids=str)
def test_groups_with_the_same_candidates_are_one_group(loss, groups):
    problem = Case(batch=8, dtype="float64", loss=loss.name, **EVERYTHING).problem()
    ids, true_count, sampled_count = problem.sampled_values
    count = None if sampled_count is None else np.tile(sampled_count, (groups, 1))
    grouped = replace(problem, sampled_values=(np.tile(ids, (groups, 1)), true_count, count))
    assert_same(twin(grouped), twin(problem))


# ---- excluded classes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("remove_hits", [False, True])
@pytest.mark.parametrize("loss", EVERY_LOSS, ids=str)
def test_an_excluded_label_is_still_a_label_and_no_candidate(loss, remove_hits):
    problem = Case(batch=3, sampled=6, dtype="float64", loss=loss.name, remove_hits=remove_hits).problem()
    problem.labels[:] = 7
    problem.sampled_values[0][:2] = 7
    exclude = Ragged(np.full(6, 7), np.array([0, 2, 4, 6]))
    excluded = twin(replace(problem, options={**problem.options, "exclude": exclude}))
    hits_removed = twin(replace(problem, options={**problem.options, "remove_accidental_hits": True}))
    assert_same(excluded, hits_removed)


@pytest.mark.parametrize("loss", EVERY_LOSS, ids=str)
def test_empty_lists_exclude_nothing(loss):
    problem = Case(dtype="float64", loss=loss.name).problem()
    empty = Ragged(np.empty(0, np.int64), np.zeros(6, np.int64))
    assert_same(twin(replace(problem, options={**problem.options, "exclude": empty})), twin(problem))
