"""What goes over all classes: exact losses with their gradients, the best classes, ranks of labels."""

from __future__ import annotations

import itertools
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import fastnce
from cases import Problem
from fastnce import Ragged, reference
from halves import HALVES, half_cases
from losses import LOSSES
from rounding import magnitude, naive_float32
from tolerances import Results, assert_accurate

LOSS = {"softmax": fastnce.softmax_loss_and_grad, "sigmoid": fastnce.sigmoid_loss_and_grad}
TWIN = {"softmax": reference.softmax_loss_and_grad, "sigmoid": reference.sigmoid_loss_and_grad}
VALUE = {"softmax": fastnce.softmax_loss, "sigmoid": fastnce.sigmoid_loss}
SAMPLED = {"softmax": "softmax", "sigmoid": "negative_sampling"}
"""The sampled loss that the full one is, if all classes are sampled and hits removed; by the table of losses."""

SHAPES = [
    (1, 1, 1, 1),
    (2, 3, 2, 1),
    (63, 31, 5, 2),
    (64, 32, 16, 1),
    (65, 33, 17, 3),
    (127, 127, 33, 1),
    (128, 128, 8, 2),
    (129, 129, 31, 1),
    (257, 255, 3, 2),
    (3, 256, 64, 1),
    (17, 257, 127, 2),
    (1, 1025, 15, 4),
    (40, 513, 300, 1),
]
"""B, V, D, T around vectors, tiles of examples and tiles of classes."""


def results(loss, grads):
    arrays = (loss, grads.inputs, grads.weights, grads.biases)
    return Results(*(None if array is None else np.asarray(array) for array in arrays))


def operands(batch, classes, dim, num_true=1, dtype="float32", seed=0):
    """Labels are distinct in each example."""
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((classes, dim)).astype(dtype)
    biases = rng.standard_normal(classes).astype(dtype)
    first = rng.integers(classes, size=(batch, 1))
    labels = (first + np.arange(num_true) * (classes // num_true)) % classes
    inputs = rng.standard_normal((batch, dim)).astype(dtype) / np.asarray(max(dim, 1) ** 0.5, dtype)
    return weights, biases, labels, inputs


def as_sampled(family, weights, biases, labels, inputs, **options):
    """The same as a sampled loss, whose rounding errors are known."""
    loss = next(loss for loss in LOSSES.values() if loss.name == SAMPLED[family])
    options = {"remove_accidental_hits": True, **options}
    return Problem(weights, biases, labels, inputs, (np.arange(len(weights)), None, None), len(weights), options, loss)


def assert_is_twins(family, weights, biases, labels, inputs, precision="highest", **options):
    ours = results(*LOSS[family](weights, biases, labels, inputs, precision=precision, **options))
    truth = results(*TWIN[family](weights, biases, labels, inputs, **options))
    problem = as_sampled(family, weights, biases, labels, inputs, **options)
    naive = naive_float32(problem) if ours.loss.dtype == np.float32 else None
    assert_accurate(ours, truth, magnitude(problem), naive, precision)


def random_lists(rng, batch, classes, most):
    """With repeats, unordered, some empty."""
    lengths = rng.integers(0, most + 1, batch)
    return Ragged(rng.integers(classes, size=lengths.sum()), np.concatenate([[0], np.cumsum(lengths)]))


# ---- losses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("family", LOSS)
def test_every_element_is_accurate_at_every_shape(family, dtype, shape):
    assert_is_twins(family, *operands(*shape, dtype=dtype))


@pytest.mark.parametrize("precision", ["high", "medium"])
@pytest.mark.parametrize("family", LOSS)
def test_every_element_keeps_the_promise_of_its_precision(family, precision):
    assert_is_twins(family, *operands(130, 300, 70, 2), precision=precision)


@pytest.mark.parametrize("family", LOSS)
def test_several_strips_of_examples_add_up(family):
    """4,096 examples are a strip; those in the second add to the rows of the first."""
    assert_is_twins(family, *operands(4100, 300, 4))


@pytest.mark.parametrize(("batch", "classes", "dim"), [(100, 220_000, 4), (140, 150_000, 130)])
def test_exponentials_are_computed_again_or_kept_in_strips(batch, classes, dim):
    """So many classes leave the cache: a small D computes its logits twice, a larger one keeps exponentials of 128
    examples at most."""
    weights, biases, labels, inputs = operands(batch, classes, dim)
    loss, grads = fastnce.softmax_loss_and_grad(weights, biases, labels, inputs)
    x, w = inputs.astype(np.float64), weights.astype(np.float64)
    v = x @ w.T + biases
    log_total = np.logaddexp.reduce(v, axis=1)
    at_label = np.arange(batch), labels[:, 0]
    true_loss = log_total - v[at_label]
    g = np.exp(v - log_total[:, np.newaxis])
    g[at_label] -= 1
    for ours, true in zip((loss, *grads), (true_loss, g @ w, g.T @ x, g.sum(axis=0)), strict=True):
        assert np.abs(ours - true).max() <= 2e-6 * np.abs(true).max()


def split_at_random(rng, values, lists):
    """Some of the lists are empty."""
    inner = np.sort(rng.integers(len(values), size=lists - 1))
    return Ragged(values, np.concatenate([[0], inner, [len(values)]]))


OPTIONS = {
    "padding": lambda rng, y: {"labels": np.where(rng.random(y.shape) < 0.4, -1, y), "padding": -1},
    "ragged": lambda rng, y: {"labels": split_at_random(rng, y[:, 0], len(y))},
    "one": lambda rng, y: {"true_target": "one"},
    "mean": lambda rng, y: {"true_target": "mean"},
    "weights": lambda rng, y: {"label_weights": rng.uniform(0, 2, y.shape)},
    "repeated": lambda rng, y: {"labels": y[:, [0, 0, 1]], "label_weights": rng.uniform(0, 2, y.shape)},
    "grad_loss": lambda rng, y: {"grad_loss": rng.standard_normal(len(y))},
    "exclude": lambda rng, y: {"exclude": random_lists(rng, len(y), 1500, 400)},
    "exclude_labels": lambda rng, y: {"exclude": Ragged(np.c_[y, y[::-1]].ravel(), np.arange(len(y) + 1) * 6)},
    "no_labels": lambda rng, y: {"labels": y[:, :0]},
    "no_biases": lambda rng, y: {"biases": None},
}


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("family", LOSS)
def test_options_mean_what_they_mean_to_the_twin(family, option, set_threads):
    weights, biases, labels, inputs = operands(150, 1500, 9, 3, "float64")  # enough work for 7 threads
    arguments = dict(weights=weights, biases=biases, labels=labels, inputs=inputs)
    arguments |= OPTIONS[option](np.random.default_rng(1), labels)
    truth = results(*TWIN[family](**arguments))
    for threads in (1, 2, 7):
        set_threads(threads)
        ours = results(*LOSS[family](**arguments))
        for own, true in zip(ours, truth, strict=True):
            if true is None:
                assert own is None
            else:
                np.testing.assert_allclose(own, true, rtol=1e-11, atol=1e-12)
        without = {name: value for name, value in arguments.items() if name != "grad_loss"}
        np.testing.assert_allclose(VALUE[family](**without), truth.loss, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("family", LOSS)
def test_true_targets_default_to_the_mean_of_a_softmax_and_to_many_hot_sigmoids(family):
    arguments = operands(5, 20, 3, 4, "float64")
    default = "mean" if family == "softmax" else "one"
    np.testing.assert_array_equal(VALUE[family](*arguments), VALUE[family](*arguments, true_target=default))


@pytest.mark.parametrize("family", LOSS)
def test_several_axes_of_examples_come_back(family):
    weights, biases, labels, inputs = operands(24, 50, 6, 2)
    flat = results(*LOSS[family](weights, biases, labels, inputs))
    nested = results(*LOSS[family](weights, biases, labels.reshape(2, 3, 4, 2), inputs.reshape(2, 3, 4, 6)))
    np.testing.assert_array_equal(nested.loss, flat.loss.reshape(2, 3, 4))
    np.testing.assert_array_equal(nested.inputs, flat.inputs.reshape(2, 3, 4, 6))
    np.testing.assert_array_equal(nested.weights, flat.weights)


@pytest.mark.parametrize("family", LOSS)
def test_no_examples_have_gradients_of_zero(family):
    weights, biases, labels, inputs = np.ones((7, 3)), np.ones(7), np.zeros(0, int), np.ones((0, 3))
    for y, x in ((labels, inputs), (np.full(4, -1), np.ones((4, 3)))):
        loss, grads = LOSS[family](weights, biases, y, x, padding=-1)
        np.testing.assert_array_equal(loss, np.zeros(len(x)))
        np.testing.assert_array_equal(grads.inputs, np.zeros((len(x), 3)))
        np.testing.assert_array_equal(grads.weights, np.zeros((7, 3)))
        np.testing.assert_array_equal(grads.biases, np.zeros(7))


@pytest.mark.parametrize("family", LOSS)
def test_a_number_of_threads_determines_every_bit(family, set_threads):
    arguments = operands(150, 700, 33)
    for threads in (1, 2, 5):
        set_threads(threads)
        for first, again in zip(*(results(*LOSS[family](*arguments)) for _ in range(2)), strict=True):
            np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("half", half_cases(HALVES))
@pytest.mark.parametrize("family", LOSS)
def test_gradients_of_16_bit_arrays_are_rounded_once(family, half):
    dtype = HALVES[half]
    weights, biases, labels, inputs = (a if a.dtype == int else a.astype(dtype) for a in operands(130, 300, 20, 2))
    loss, grads = LOSS[family](weights, biases, labels, inputs)
    exact_loss, exact = LOSS[family](weights, biases, labels, inputs, grad_dtype="float32")
    np.testing.assert_array_equal(loss, exact_loss)
    for rounded, whole in zip(grads, exact, strict=True):
        assert rounded.dtype == dtype and whole.dtype == np.float32
        np.testing.assert_array_equal(rounded, whole.astype(dtype))
    wide = [np.asarray(a, np.float32) for a in (weights, biases)]
    same_loss, same = LOSS[family](*wide, labels, np.asarray(inputs, np.float32))
    np.testing.assert_array_equal(loss, same_loss)
    for whole, from_wide in zip(exact, same, strict=True):
        np.testing.assert_array_equal(whole, from_wide)


@pytest.mark.parametrize("family", LOSS)
def test_a_batch_of_16_bit_arrays_is_rounded_once_however_long(family):
    weights, biases, labels, inputs = (a if a.dtype == int else a.astype(np.float16) for a in operands(5000, 30, 4))
    _, grads = LOSS[family](weights, biases, labels, inputs)
    truth = TWIN[family](weights, biases, labels, inputs)[1]
    np.testing.assert_allclose(grads.weights, truth.weights, rtol=2.0**-10, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("family", LOSS)
def test_gradients_of_tables_go_to_out(family, dtype):
    arguments = [a if a.dtype == int else a.astype(dtype) for a in operands(70, 300, 20)]
    loss, grads = LOSS[family](*arguments)
    weights, biases = np.full((300, 20), np.nan, dtype), np.full(300, np.nan, dtype)
    same_loss, same = LOSS[family](*arguments, out=(weights, biases))
    assert same.weights is weights and same.biases is biases
    np.testing.assert_array_equal(loss, same_loss)
    np.testing.assert_array_equal(weights, grads.weights)
    np.testing.assert_array_equal(biases, grads.biases)
    biases[:] = np.nan
    LOSS[family](*arguments, out=(None, biases))
    np.testing.assert_array_equal(biases, grads.biases)


def test_the_loss_of_a_certain_prediction_is_not_negative():
    """Label and classes score by the same products, at every precision."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((50, 64)).astype(np.float32)
    for precision in ("highest", "high", "medium"):
        loss = fastnce.softmax_loss(weights, None, np.arange(50), 3 * weights, precision=precision)
        assert (loss >= 0).all() and loss.max() < 1e-6


@pytest.mark.parametrize("logit", [5, 15, 20, 25, 1e4, 1e7, 1e30])
@pytest.mark.parametrize("family", LOSS)
def test_a_certain_prediction_keeps_its_digits(family, logit):
    """Loss and gradient of a label far above all other classes; some labels twice."""
    biases = np.full(1000, -1 if family == "softmax" else -25, np.float32)
    biases[3] = logit
    labels = np.array([[3, 3], [3, 3]])
    weights, inputs = np.zeros((1000, 2), np.float32), np.ones((2, 2), np.float32)
    loss, grads = LOSS[family](weights, biases, labels, inputs, true_target="mean")
    if family == "softmax":
        rest = 999 * np.exp(-1 - float(logit))
        expected, slope = np.log1p(rest), -rest / (1 + rest)
    else:
        expected = np.log1p(np.exp(-float(logit))) + 999 * np.log1p(np.exp(-25))
        slope = -1 / (1 + np.exp(min(float(logit), 700)))
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(grads.biases[3], 2 * slope, rtol=1e-5, atol=1e-38)


# ---- evaluation ----------------------------------------------------------------------------------------------


def small_integers(batch, classes, dim, dtype="float32", seed=0):
    """Scores are exact in every dtype, and many tie."""
    rng = np.random.default_rng(seed)
    return tuple(rng.integers(-2, 3, shape).astype(dtype) for shape in ((classes, dim), (classes,), (batch, dim)))


def sharded(table, strategy):
    return [table[i::3] for i in range(3)] if strategy == "mod" else np.array_split(table, 3)


def assert_evaluates_as_twin(weights, biases, inputs, labels, k, exclude=None, **options):
    twin_options = {name: value for name, value in options.items() if name == "partition_strategy"}
    scores, ids = fastnce.top_k(weights, biases, inputs, k, exclude, **options)
    true_scores, true_ids = reference.top_k(weights, biases, inputs, k, exclude, **twin_options)
    assert scores.dtype == (np.float64 if inputs.dtype == np.float64 else np.float32)
    assert ids.dtype == np.int64
    np.testing.assert_array_equal(ids, true_ids)
    np.testing.assert_array_equal(scores, true_scores)
    ranks = fastnce.rank_of_labels(weights, biases, labels, inputs, exclude, **options)
    assert ranks.dtype == np.float64
    np.testing.assert_array_equal(
        ranks, reference.rank_of_labels(weights, biases, labels, inputs, exclude, **twin_options)
    )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", half_cases(["float32", "float64", "float16", "bfloat16"]))
def test_evaluation_is_the_twins_at_every_shape(dtype, shape):
    batch, classes, dim, num_true = shape
    tables = small_integers(batch, classes, dim, HALVES.get(dtype, dtype))
    labels = np.random.default_rng(1).integers(classes, size=(batch, num_true))
    for k in {1, min(classes, 10), classes}:
        assert_evaluates_as_twin(*tables, labels, k)


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("most", [0, 5, 1900])
def test_excluded_classes_are_left_out(most, threads, precision, set_threads):
    set_threads(threads)
    rng = np.random.default_rng(2)
    exclude = random_lists(rng, 200, 2000, most)  # enough work for 7 threads
    labels = rng.integers(2000, size=(200, 2))
    labels[:, 0] = [exclude.values[begin] if begin < end else 0 for begin, end in itertools.pairwise(exclude.offsets)]
    assert_evaluates_as_twin(*small_integers(200, 2000, 20), labels, 60, exclude, precision=precision)


@pytest.mark.parametrize("k", [0, 1, 2, 40, 41, 100])
def test_fewer_classes_than_k_leave_places_empty(k):
    exclude = Ragged(np.r_[np.arange(40), np.arange(39), 5, 5], [0, 40, 79, 81])
    assert_evaluates_as_twin(*small_integers(3, 40, 2), np.zeros(3, int), k, exclude)


@pytest.mark.parametrize("strategy", ["div", "mod"])
def test_tables_may_be_in_shards(strategy):
    weights, biases, inputs = small_integers(10, 300, 6)
    labels = np.arange(10)
    shards = [sharded(table, strategy) for table in (weights, biases)]
    assert_evaluates_as_twin(*shards, inputs, labels, 20, partition_strategy=strategy)
    for family, loss in LOSS.items():
        whole = results(*loss(weights, biases, labels, inputs))
        for ours, theirs in zip(
            results(*loss(*shards, labels, inputs, partition_strategy=strategy)), whole, strict=True
        ):
            np.testing.assert_array_equal(ours, theirs, err_msg=family)


def test_tables_may_be_memory_maps_and_have_any_row_stride(tmp_path):
    weights, biases, inputs = small_integers(10, 300, 6)
    np.save(tmp_path / "weights.npy", weights)
    mapped = np.load(tmp_path / "weights.npy", mmap_mode="r")
    wide = np.zeros((300, 9), np.float32)
    wide[:, 2:8] = weights
    expected = fastnce.top_k(weights, biases, inputs, 7)
    loss, grads = fastnce.softmax_loss_and_grad(weights, biases, np.arange(10), inputs)
    for table in (mapped, wide[:, 2:8]):
        np.testing.assert_array_equal(fastnce.top_k(table, biases, inputs, 7), expected)
        same_loss, same = fastnce.softmax_loss_and_grad(table, biases, np.arange(10), inputs)
        np.testing.assert_array_equal(same_loss, loss)
        np.testing.assert_array_equal(same.weights, grads.weights)


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
@pytest.mark.parametrize("dtype", half_cases(["float32", "float64", "float16", "bfloat16"]))
def test_equal_rows_tie_bit_for_bit_wherever_they_stand(dtype, precision):
    """In any tile, any lane, any shard, and as labels."""
    dtype = HALVES.get(dtype, np.dtype(dtype))
    rng = np.random.default_rng(0)
    classes, batch, dim = 1000, 37, 131
    row = rng.permutation(classes) % 100
    weights = rng.standard_normal((100, dim)).astype(dtype)[row]
    biases = rng.standard_normal(100).astype(dtype)[row]
    inputs = rng.standard_normal((batch, dim)).astype(dtype)
    labels = np.array([np.flatnonzero(row == b) for b in range(batch)])
    ranks = fastnce.rank_of_labels(weights, biases, labels, inputs, precision=precision)
    assert (ranks == ranks[:, :1]).all()
    np.testing.assert_array_equal(ranks % 10, np.full(ranks.shape, 1 + 9 / 2))
    for b, exclude in enumerate(np.split(np.tile(np.arange(classes), (batch, 1)), batch)):
        kept = np.isin(exclude[0], labels[b])
        lists = Ragged(exclude[0][~kept], np.r_[0, classes - 10])
        scores, ids = fastnce.top_k(weights, biases, inputs[b : b + 1], 10, lists, precision=precision)
        np.testing.assert_array_equal(ids[0], labels[b])
        assert len(set(scores[0].tolist())) == 1
    shards = [sharded(table, "mod") for table in (weights, biases)]
    np.testing.assert_array_equal(
        fastnce.rank_of_labels(*shards, labels, inputs, partition_strategy="mod", precision=precision), ranks
    )


def test_scores_that_are_not_finite():
    weights = np.array([np.nan, -np.inf, 1.0, np.inf, np.nan, 2.0, -np.inf], np.float32)[:, np.newaxis]
    inputs = np.ones((3, 1), np.float32)
    labels = np.tile(np.arange(7), (3, 1))
    assert_evaluates_as_twin(weights, None, inputs, labels, 7)
    assert_evaluates_as_twin(weights, None, inputs, labels, 2)
    many = np.tile(weights, (60, 1))
    assert_evaluates_as_twin(many, None, inputs, labels, 200)
    assert_evaluates_as_twin(many, None, np.array([[np.nan], [np.inf], [1.0]], np.float32), labels, 200)


def test_ranks_have_the_shape_of_the_labels():
    weights, biases, inputs = small_integers(4, 50, 3)
    matrix = np.array([[3, 5], [0, -1], [-1, -1], [49, 49]])
    ranks = fastnce.rank_of_labels(weights, biases, matrix, inputs, padding=-1)
    np.testing.assert_array_equal(ranks, reference.rank_of_labels(weights, biases, matrix, inputs, padding=-1))
    np.testing.assert_array_equal(
        fastnce.rank_of_labels(weights, biases, matrix[:, 0], inputs, padding=-1), ranks[:, 0]
    )
    lists = Ragged([3, 5, 0, 49, 49], [0, 2, 3, 3, 5])
    np.testing.assert_array_equal(fastnce.rank_of_labels(weights, biases, lists, inputs), ranks[np.array(matrix) != -1])
    nested = fastnce.rank_of_labels(weights, biases, matrix.reshape(2, 2, 2), inputs.reshape(2, 2, 3), padding=-1)
    np.testing.assert_array_equal(nested, ranks.reshape(2, 2, 2))


def test_one_example_may_have_very_many_labels():
    weights, biases, inputs = small_integers(20, 700, 4)
    lists = Ragged(np.r_[np.arange(700), np.zeros(30, int)], np.r_[0, 1, 700, np.linspace(701, 730, 18).astype(int)])
    np.testing.assert_array_equal(
        fastnce.rank_of_labels(weights, biases, lists, inputs),
        reference.rank_of_labels(weights, biases, lists, inputs),
    )


@pytest.mark.parametrize("k", [1, 10, 500])
def test_evaluation_does_not_depend_on_threads_and_strips(k, set_threads):
    """A real table, in no order; many strips."""
    rng = np.random.default_rng(0)
    weights, inputs = rng.standard_normal((3000, 8)), rng.standard_normal((4200, 8))
    labels = rng.integers(3000, size=4200)
    scores = inputs @ weights.T
    ids = np.argsort(-scores[-60:], axis=1, kind="stable")[:, :k]
    for threads in (1, 2, 5):
        set_threads(threads)
        best, best_ids = fastnce.top_k(weights, None, inputs, k)
        np.testing.assert_array_equal(best_ids[-60:], ids)
        np.testing.assert_allclose(best[-60:], np.take_along_axis(scores[-60:], ids, axis=1), rtol=1e-12)
        ranks = fastnce.rank_of_labels(weights, None, labels, inputs)
        own = np.take_along_axis(scores, labels[:, np.newaxis], axis=1)
        np.testing.assert_array_equal(ranks, 1 + (scores > own + 1e-12).sum(axis=1))


# ---- how calls run -------------------------------------------------------------------------------------------

CALLS = {
    "top_k": lambda w, c, y, x, **options: fastnce.top_k(w, c, x, 3, **options),
    "rank_of_labels": fastnce.rank_of_labels,
    "softmax_loss": fastnce.softmax_loss,
    "softmax_loss_and_grad": fastnce.softmax_loss_and_grad,
    "sigmoid_loss": fastnce.sigmoid_loss,
    "sigmoid_loss_and_grad": fastnce.sigmoid_loss_and_grad,
}


@pytest.mark.parametrize("name", CALLS)
def test_progress_rises_and_ends_with_the_total(name):
    told = []
    CALLS[name](*operands(2000, 20_000, 64), progress=lambda done, total: told.append((done, total)))
    totals = {total for _, total in told}
    assert len(totals) == 1 and told[-1] == (*totals, *totals)
    assert sorted(set(told)) == told


@pytest.mark.parametrize("name", CALLS)
def test_progress_is_told_the_end_where_there_are_no_examples(name):
    told = []
    CALLS[name](*operands(0, 20, 4), progress=lambda done, total: told.append((done, total)))
    assert told == [(0, 0)]


def test_progress_is_told_the_end_where_nothing_is_wanted():
    told = []
    weights, biases, _, inputs = operands(5, 20, 4)
    fastnce.top_k(weights, biases, inputs, 0, progress=lambda done, total: told.append((done, total)))
    assert told == [(100, 100)]


@pytest.mark.parametrize("name", CALLS)
def test_what_progress_raises_ends_the_call(name):
    def stop(done, total):
        raise LookupError(f"at {done} of {total}")

    arguments = operands(50, 300, 8)
    with pytest.raises(LookupError, match="at 15000 of 15000"):
        CALLS[name](*arguments, progress=stop)
    CALLS[name](*arguments, progress=lambda done, total: CALLS[name](*arguments))  # may call the library


def test_a_long_call_ends_where_progress_raises(set_threads):
    set_threads(1)
    arguments = operands(4096, 50_000, 64)
    calls = []

    def stop(done, total):
        calls.append(done / total)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fastnce.softmax_loss_and_grad(*arguments, progress=stop)
    assert len(calls) == 1 and calls[0] < 1


def test_the_matrix_of_scores_is_never_in_memory():
    script = """
        import resource
        import numpy as np, fastnce
        fastnce.set_num_threads(2)
        B, V, D = 4096, 100_000, 8
        rng = np.random.default_rng(0)
        weights, biases, inputs = np.ones((V, D), np.float32), np.zeros(V, np.float32), np.ones((B, D), np.float32)
        labels, out = rng.integers(V, size=B), (np.zeros((V, D), np.float32), np.zeros(V, np.float32))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        fastnce.top_k(weights, biases, inputs, 10)
        fastnce.rank_of_labels(weights, biases, labels, inputs)
        fastnce.softmax_loss_and_grad(weights, biases, labels, inputs, out=out)
        fastnce.sigmoid_loss_and_grad(weights, biases, labels, inputs, out=out)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) << 10 < 256 << 20  # [B, V] are 1,563 MiB


BAD = [
    (dict(labels=np.zeros((5, 2, 1), int)), ValueError, r"labels has shape \[5, 2, 1\]: expected \[4\] or \[4, T\]"),
    (dict(labels=np.array([0, 1, 2, 20])), ValueError, r"labels\[3, 0\] = 20 is outside \[0, num_classes = 20\)"),
    (dict(labels=Ragged([1, 2], [0, 1, 2])), ValueError, r"labels.offsets has shape \[3\]: expected \[B \+ 1\]"),
    (dict(exclude=[[1]]), TypeError, "exclude is a list: expected a fastnce.Ragged"),
    (dict(exclude=Ragged([99], [0, 0, 0, 0, 1])), ValueError, r"exclude.values\[0\] = 99 is outside"),
    (dict(progress=3), TypeError, r"progress is an int: expected None or a callable of \(done, total\)"),
    (dict(precision="low"), ValueError, "precision = 'low'"),
    (dict(biases=np.ones(19, np.float32)), ValueError, "biases has 19 rows: expected at least num_classes = 20"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "error", "message"), BAD)
@pytest.mark.parametrize("name", CALLS)
def test_errors_name_the_argument_what_was_expected_and_what_came(name, change, error, message):
    if name == "top_k" and "labels" in change:
        return
    weights, biases, labels, inputs = operands(4, 20, 3)
    change = dict(change)
    biases, labels = change.pop("biases", biases), change.pop("labels", labels)
    with pytest.raises(error, match=message):
        CALLS[name](weights, biases, labels, inputs, **change)


class OnCuda:
    """Says that its memory is on a CUDA device."""

    shape, dtype = (4, 3), np.dtype(np.float32)

    def __dlpack_device__(self):
        return 2, 1

    def __dlpack__(self, **_):
        raise AssertionError("not to be exported")


@pytest.mark.parametrize("name", CALLS)
def test_arrays_on_a_cuda_device_are_refused(name):
    weights, biases, labels, inputs = operands(4, 20, 3)
    with pytest.raises(ValueError, match="inputs is on device cuda:1: expected cpu"):
        CALLS[name](weights, biases, labels, OnCuda())
    with pytest.raises(ValueError, match="weights is on device cuda:1: expected cpu"):
        CALLS[name](OnCuda(), biases, labels, inputs)


BAD_OUT = [
    ([np.zeros((20, 3), np.float32)], TypeError, "out is a list: expected a tuple of two arrays"),
    ((np.zeros((19, 3), np.float32), None), ValueError, r"out\[0\] has shape \[19, 3\]: expected \[20, 3\]"),
    ((np.zeros((20, 3)), None), TypeError, r"out\[0\] has dtype float64: expected float32"),
    ((np.zeros((3, 20), np.float32).T, None), ValueError, r"out\[0\] has strides \[1, 20\]"),
    ((None, np.zeros(40, np.float32)[::2]), ValueError, r"out\[1\] has strides \[2\]"),
    ((None, np.broadcast_to(np.float32(0), 20)), ValueError, r"out\[1\]"),
    ((None, [0.0] * 20), TypeError, r"out\[1\] is a list: expected a NumPy array"),
]  # fmt: skip


@pytest.mark.parametrize(("out", "error", "message"), BAD_OUT)
def test_errors_of_out(out, error, message):
    with pytest.raises(error, match=message):
        fastnce.softmax_loss_and_grad(*operands(4, 20, 3), out=out)


@pytest.mark.parametrize("family", LOSS)
def test_out_shares_no_memory_with_what_is_read(family):
    """Tables are read while their gradients are written: a call would return other numbers, without an error."""
    weights, biases, labels, inputs = operands(30, 20, 3)
    memory = np.zeros(80, np.float32)
    for out, words in (
        ((weights, None), r"out\[0\] shares memory with weights"),
        ((None, biases), r"out\[1\] shares memory with biases"),
        ((inputs[:20], None), r"out\[0\] shares memory with inputs"),
        ((memory[:60].reshape(20, 3), memory[59:79]), r"out\[1\] shares memory with out\[0\]"),
    ):
        with pytest.raises(ValueError, match=words):
            LOSS[family](weights, biases, labels, inputs, out=out)
    with pytest.raises(ValueError, match="shares memory with weights"):
        LOSS[family]([weights[10:][::-1], weights[:10]], biases, labels, inputs, out=(weights, None))
    LOSS[family](weights, biases, labels, inputs, out=(memory[:60].reshape(20, 3), memory[60:]))


def test_k_is_a_whole_number_of_at_least_0():
    weights, biases, _, inputs = operands(4, 20, 3)
    with pytest.raises(ValueError, match="k = -1: expected at least 0"):
        fastnce.top_k(weights, biases, inputs, -1)
    with pytest.raises(TypeError, match="k is a float: expected an integer"):
        fastnce.top_k(weights, biases, inputs, 2.0)
