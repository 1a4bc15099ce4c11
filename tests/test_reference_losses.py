"""The twin of the losses: TensorFlow's numbers, the formulas of textbooks, properties, limits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cases import GOLDEN, Case, golden_id, golden_loss_problem
from fastnce import reference
from losses import EVERY_LOSS
from rounding import magnitude, naive_float32
from tolerances import Results, assert_accurate, assert_same_as_tensorflow

FAR = 1e4
"""Logits whose exponential no floating-point number holds."""


def assert_close(actual, expected):
    """Sums in another order."""
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)


def dense(problem, grads, name):
    """Row gradients as a whole table."""
    table = np.zeros(np.shape(getattr(problem, name)))
    table[grads.rows.ids] = getattr(grads.rows, name)
    return table


def scores(problem):
    """``x.w + c`` of every class: ``[B, V]``."""
    return problem.inputs @ problem.weights.T + problem.biases


def log_sigmoid(logit):
    return -np.log1p(np.exp(-logit))


def twin(problem):
    return reference.sampled_loss_and_grad(
        problem.weights,
        problem.biases,
        problem.labels,
        problem.inputs,
        problem.sampled_values,
        **problem.twin_options(),
    )


def variants(**sizes):
    """Every loss, with hits kept and removed, and without biases, counts, or some of the labels."""
    flags = ({}, {"remove_hits": True}, {"no_biases": True}, {"no_counts": True}, {"padded": True, "remove_hits": True})
    return [Case(dtype="float64", loss=loss.name, **sizes, **flag) for loss in EVERY_LOSS for flag in flags]


@pytest.mark.parametrize("case", GOLDEN["loss"], ids=golden_id)
def test_loss_and_gradients_are_tensorflows(case):
    problem = golden_loss_problem(case, "float64")
    ids, truth = problem.truth()
    assert_same_as_tensorflow(truth.loss, case["loss"])
    assert_same_as_tensorflow(truth.inputs, case["dx"])
    assert_same_as_tensorflow(truth.weights, np.array(case["dW"])[ids])
    assert_same_as_tensorflow(truth.biases, np.array(case["db"])[ids])
    untouched = np.setdiff1d(np.arange(case["V"]), ids)
    assert not np.any(np.array(case["dW"])[untouched])


@pytest.mark.parametrize("case", variants(batch=3, num_true=2), ids=str)
def test_the_names_are_members_of_the_family(case):
    problem = case.problem()
    loss, grads = twin(problem)
    ids, named = problem.truth()
    np.testing.assert_array_equal(ids, grads.rows.ids)
    np.testing.assert_equal(named, Results.of(loss, grads))


@pytest.mark.parametrize("loss", EVERY_LOSS, ids=str)
def test_hits_are_kept_or_removed_by_default_as_the_table_says(loss):
    problem = Case(dtype="float64", loss=loss.name).problem()
    kept, removed = (replace(problem, options={**problem.options, "remove_accidental_hits": r}) for r in (False, True))
    del problem.options["remove_accidental_hits"]
    np.testing.assert_equal(problem.truth(), (removed if loss.removes_hits else kept).truth())
    assert (kept.truth()[1].loss != removed.truth()[1].loss).any()


@pytest.mark.parametrize("case", variants(batch=40, dim=33, sampled=70, num_true=3), ids=str)
def test_a_plain_float32_evaluation_is_accurate(case):
    """Or the rule by which the library is judged would be too strict, or miss a term."""
    problem = replace(case, dtype="float32").problem()
    assert_accurate(naive_float32(problem), problem.truth()[1], magnitude(problem))


# ---- formulas as published ---------------------------------------------------------------------------------


def test_nce_discriminates_between_data_and_noise():
    """Posterior ``exp(score) / (exp(score) + Q)`` of the data, Q the expected count of the class among the samples."""
    problem = Case(dtype="float64", loss="nce_one").problem()
    ids, true_count, sampled_count = problem.sampled_values
    odds_true = np.exp(np.take_along_axis(scores(problem), problem.labels, axis=1)) / true_count
    odds_sampled = np.exp(scores(problem)[:, ids]) / sampled_count
    expected = -np.log(odds_true / (odds_true + 1)).sum(axis=1) - np.log(1 / (odds_sampled + 1)).sum(axis=1)
    assert_close(twin(problem)[0], expected)


def test_nce_of_tensorflow_is_cross_entropy_with_targets_of_1_over_T():
    problem = Case(num_true=3, dtype="float64").problem()
    ids, true_count, sampled_count = problem.sampled_values
    u = np.take_along_axis(scores(problem), problem.labels, axis=1) - np.log(true_count, dtype=np.float64)
    v = scores(problem)[:, ids] - np.log(sampled_count, dtype=np.float64)
    loss = -(log_sigmoid(u) / 3 + log_sigmoid(-u) * (1 - 1 / 3)).sum(axis=1) - log_sigmoid(-v).sum(axis=1)
    assert_close(twin(problem)[0], loss)


def test_negative_sampling_is_word2vecs_objective():
    problem = Case(dtype="float64", loss="negative_sampling").problem()
    u = np.take_along_axis(scores(problem), problem.labels, axis=1)
    v = scores(problem)[:, problem.sampled_values[0]]
    assert_close(twin(problem)[0], -log_sigmoid(u)[:, 0] - log_sigmoid(-v).sum(axis=1))


def test_gbce_raises_the_likelihood_of_the_positive_to_the_power_beta():
    problem = Case(dtype="float64", loss="gbce").problem()
    beta = reference.gbce_weight(7, problem.num_classes, 0.75)
    positive = 1 / (1 + np.exp(-np.take_along_axis(scores(problem), problem.labels, axis=1)[:, 0]))
    v = scores(problem)[:, problem.sampled_values[0]]
    assert_close(twin(problem)[0], -np.log(positive**beta) - np.log(1 - 1 / (1 + np.exp(-v))).sum(axis=1))


def test_gbce_weight_goes_from_one_to_the_sampling_rate():
    assert reference.gbce_weight(256, 12_102, 0.0) == 1.0
    assert reference.gbce_weight(256, 12_102, 1.0) == pytest.approx(256 / 12_101)
    assert reference.gbce_weight(256, 12_102, 0.75) == pytest.approx(0.25 + 0.75 * 256 / 12_101)
    assert reference.gbce_weight(99, 100, 0.3) == pytest.approx(1.0)  # all negatives: nothing to calibrate


@pytest.mark.parametrize("num_true", [1, 2])
def test_softmax_over_all_classes_is_the_full_softmax(num_true):
    case = Case(
        batch=6, sampled=12, num_true=num_true, dtype="float64", loss="softmax", remove_hits=True, no_counts=True
    )
    problem = case.problem()
    batch, classes = len(problem.labels), problem.num_classes
    labels = np.argsort(np.random.default_rng(0).random((batch, classes)), axis=1)[:, :num_true]
    everything = np.random.default_rng(1).permutation(classes)
    problem = replace(problem, labels=labels, sampled_values=(everything, None, None))
    loss, grads = twin(problem)
    p = np.exp(scores(problem)) / np.exp(scores(problem)).sum(axis=1, keepdims=True)
    assert_close(loss, -np.log(np.take_along_axis(p, labels, axis=1)).mean(axis=1))
    slope = p.copy()
    np.put_along_axis(slope, labels, np.take_along_axis(p, labels, axis=1) - 1 / num_true, axis=1)
    assert_close(grads.inputs, slope @ problem.weights)
    assert_close(dense(problem, grads, "weights"), slope.T @ problem.inputs)
    assert_close(dense(problem, grads, "biases"), slope.sum(axis=0))


def test_softmax_that_keeps_hits_counts_the_true_class_twice():
    problem = Case(batch=6, sampled=12, dtype="float64", loss="softmax", no_counts=True).problem()
    everything = np.arange(problem.num_classes)
    loss, _ = twin(replace(problem, sampled_values=(everything, None, None)))
    exponentials = np.exp(scores(problem))
    true = np.take_along_axis(exponentials, problem.labels, axis=1)[:, 0]
    assert_close(loss, -np.log(true / (exponentials.sum(axis=1) + true)))


@pytest.mark.parametrize("target", ["mean", "one"])
@pytest.mark.parametrize("num_true", [1, 3])
def test_derivatives_of_a_softmax_by_its_logits_sum_to_zero(num_true, target):
    problem = Case(num_true=num_true, dtype="float64", loss="softmax", remove_hits=True).problem()
    problem.options["true_target"] = target
    assert_close(twin(problem)[1].rows.biases.sum(), 0.0)


# ---- properties ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", variants(batch=5, num_true=3), ids=str)
def test_the_order_of_samples_of_labels_and_of_examples_does_not_matter(case):
    problem = case.problem()
    rng = np.random.default_rng(3)
    of_samples, of_labels, of_examples = map(rng.permutation, (7, 3, 5))
    ids, true_count, sampled_count = problem.sampled_values
    weights = {name: problem.options[name][of_examples] for name in problem.options if np.ndim(problem.options[name])}
    moved = replace(
        problem,
        labels=problem.labels[of_examples][:, of_labels],
        inputs=problem.inputs[of_examples],
        sampled_values=(
            ids[of_samples],
            None if true_count is None else true_count[of_examples][:, of_labels],
            None if sampled_count is None else sampled_count[of_samples],
        ),
        options={**problem.options, **weights},
    )
    (loss, grads), (moved_loss, moved_grads) = twin(problem), twin(moved)
    assert_close(moved_loss, loss[of_examples])
    assert_close(moved_grads.inputs, grads.inputs[of_examples])
    np.testing.assert_array_equal(moved_grads.rows.ids, grads.rows.ids)
    assert_close(moved_grads.rows.weights, grads.rows.weights)
    if grads.rows.biases is not None:
        assert_close(moved_grads.rows.biases, grads.rows.biases)


@pytest.mark.parametrize("case", variants(batch=5, num_true=3), ids=str)
def test_the_batch_is_the_sum_of_its_examples_each_with_the_labels_that_remain(case):
    problem = case.problem()
    loss, grads = twin(problem)
    ids, true_count, sampled_count = problem.sampled_values
    padding = problem.options.get("padding")
    weights = np.zeros_like(problem.weights)
    for b, classes in enumerate(problem.labels):
        kept = classes != padding
        if not kept.any():
            assert loss[b] == 0.0
            assert not grads.inputs[b].any()
            continue
        options = {name: value[b : b + 1] if np.ndim(value) else value for name, value in problem.options.items()}
        options.pop("padding", None)
        alone = replace(
            problem,
            labels=classes[kept][np.newaxis],
            inputs=problem.inputs[b : b + 1],
            sampled_values=(ids, None if true_count is None else true_count[b][kept][np.newaxis], sampled_count),
            options=options,
        )
        one_loss, one = twin(alone)
        assert_close(loss[b], one_loss[0])
        assert_close(grads.inputs[b], one.inputs[0])
        weights += dense(problem, one, "weights")
    assert_close(dense(problem, grads, "weights"), weights)


@pytest.mark.parametrize("padding", [-1, 10**12, -(2**63)])
@pytest.mark.parametrize("loss", EVERY_LOSS, ids=str)
def test_padding_may_be_the_id_of_no_class_and_is_no_row(loss, padding):
    problem = Case(num_true=2, dtype="float64", loss=loss.name).problem()
    labels = problem.labels.copy()
    labels[:, 1] = padding
    labels[0] = padding
    value, grads = twin(replace(problem, labels=labels, options={**problem.options, "padding": padding}))
    assert np.isfinite(value).all()
    expected = np.unique(np.concatenate([labels[1:, 0], problem.sampled_values[0]]))
    np.testing.assert_array_equal(grads.rows.ids, expected)


@pytest.mark.parametrize("upstream", [1.0, np.inf, np.nan])
@pytest.mark.parametrize("loss", EVERY_LOSS, ids=str)
def test_an_example_without_labels_has_no_gradient_whatever_its_factor(loss, upstream):
    problem = Case(batch=3, num_true=2, dtype="float64", loss=loss.name).problem()
    labels = np.full_like(problem.labels, -1)
    options = {**problem.options, "padding": -1, "grad_loss": np.full(3, upstream)}
    value, grads = twin(replace(problem, labels=labels, options=options))
    np.testing.assert_array_equal(grads.rows.ids, np.unique(problem.sampled_values[0]))
    for array in (value, grads.inputs, grads.rows.weights, grads.rows.biases):
        np.testing.assert_array_equal(array, np.zeros_like(array))


@pytest.mark.parametrize("loss", EVERY_LOSS, ids=str)
def test_a_removed_hit_is_as_if_it_had_not_been_sampled(loss):
    """Every duplicate of it, whatever its expected count."""
    problem = Case(batch=3, sampled=6, dtype="float64", loss=loss.name, remove_hits=True).problem()
    hit = 7
    problem.labels[:] = hit
    others = np.array([1, 2, 3, 2])
    count = np.array([0.5, 0.2, 0.7, 0.2]) if loss.takes_counts else None
    true_count = np.full((3, 1), 0.4) if loss.takes_counts else None
    samples = np.insert(others, [0, 2, 4], hit)
    bad = None if count is None else np.insert(count, [0, 2, 4], [0.0, np.inf, np.nan])
    loss_with, with_hits = twin(replace(problem, sampled_values=(samples, true_count, bad)))
    loss_without, without = twin(replace(problem, sampled_values=(others, true_count, count)))
    assert_close(loss_with, loss_without)
    for ours, expected in zip((with_hits.inputs, *with_hits.rows), (without.inputs, *without.rows), strict=True):
        assert_close(ours, expected)


@pytest.mark.parametrize("loss", EVERY_LOSS, ids=str)
def test_no_biases_are_zeros_and_no_counts_are_ones(loss):
    problem = Case(num_true=2, dtype="float64", loss=loss.name).problem()
    ids = problem.sampled_values[0]
    zeros, ones = np.zeros(problem.num_classes), (ids, np.ones((5, 2)), np.ones(len(ids)))
    expected_loss, expected = twin(replace(problem, biases=zeros, sampled_values=ones))
    value, grads = twin(replace(problem, biases=None, sampled_values=(ids, None, None)))
    np.testing.assert_array_equal(value, expected_loss)
    np.testing.assert_array_equal(grads.inputs, expected.inputs)
    np.testing.assert_array_equal(grads.rows.weights, expected.rows.weights)
    assert grads.rows.biases is None


def test_weights_of_examples_scale_their_true_and_their_sampled_terms():
    problem = Case(dtype="float64", loss="negative_sampling", num_true=2).problem()

    def loss(positive, negative):
        weights = {"positive_weight": positive, "negative_weight": negative}
        return twin(replace(problem, options={**problem.options, **weights}))[0]

    a, m = np.arange(5.0), np.arange(5.0, 0.0, -1.0)
    assert_close(loss(a, m), a * loss(1.0, 0.0) + m * loss(0.0, 1.0))


# ---- limits --------------------------------------------------------------------------------------------------


def far_problem(loss, true_score, sampled_score):
    """Two examples with one label and three samples, whose scores are as given."""
    problem = Case(batch=2, dim=1, sampled=3, dtype="float64", loss=loss, no_counts=True).problem()
    weights = np.full((problem.num_classes, 1), sampled_score)
    weights[0] = true_score
    return replace(
        problem,
        weights=weights,
        biases=None,
        labels=np.zeros((2, 1), np.int64),
        inputs=np.ones((2, 1)),
        sampled_values=(np.array([1, 2, 3]), None, None),
    )


@pytest.mark.parametrize(
    ("loss", "true_score", "sampled_score", "expected", "slopes"),
    [
        ("softmax", FAR, -FAR, 0.0, (0.0, 0.0)),
        ("softmax", -FAR, FAR, 2 * FAR + np.log(3), (-1.0, 1 / 3)),
        ("softmax", FAR, FAR, np.log(4), (-0.75, 0.25)),
        ("softmax", -FAR, -FAR, np.log(4), (-0.75, 0.25)),
        ("nce", FAR, -FAR, 0.0, (0.0, 0.0)),
        ("nce", -FAR, FAR, 4 * FAR, (-1.0, 1.0)),
        ("negative_sampling", -FAR, FAR, 4 * FAR, (-1.0, 1.0)),
    ],
)
def test_logits_far_from_zero_do_not_overflow(loss, true_score, sampled_score, expected, slopes):
    value, grads = twin(far_problem(loss, true_score, sampled_score))
    assert_close(value, np.full(2, expected))
    assert_close(grads.rows.weights[:, 0], 2 * np.array([slopes[0], *[slopes[1]] * 3]))


def test_softmax_without_samples_has_nothing_to_choose_from():
    value, grads = twin(Case(sampled=0, dtype="float64", loss="softmax").problem())
    assert_close(value, np.zeros(5))
    assert_close(grads.rows.weights, np.zeros_like(grads.rows.weights))


def test_without_true_classes_a_softmax_is_zero_and_nce_keeps_its_samples():
    softmax, _ = twin(Case(num_true=0, dtype="float64", loss="softmax").problem())
    np.testing.assert_array_equal(softmax, np.zeros(5))
    problem = Case(num_true=0, dtype="float64").problem()
    ids, _, count = problem.sampled_values
    assert_close(
        twin(problem)[0], np.logaddexp(0, scores(problem)[:, ids] - np.log(count, dtype=np.float64)).sum(axis=1)
    )
