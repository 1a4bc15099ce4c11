"""What goes over all classes, on a CUDA device: against the float64 twins, as on the CPU."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import cuda_arrays
import fastnce
from fastnce import Ragged, reference
from halves import HALVES, half_cases
from rounding import magnitude, naive_float32
from test_all_classes import (
    LOSS,
    OPTIONS,
    TWIN,
    VALUE,
    as_sampled,
    operands,
    random_lists,
    results,
    sharded,
    small_integers,
)
from tolerances import allowed_error, assert_accurate

pytestmark = pytest.mark.cuda

both_losses = pytest.mark.parametrize("family", LOSS)
one_framework = pytest.mark.parametrize("cuda_array", cuda_arrays.installed()[:1] or ["none"], indirect=True)
"""For what an array's framework has no part in."""

SHAPES = [
    (1, 1, 1, 1, "highest"),
    (2, 3, 2, 1, "medium"),
    (127, 129, 33, 2, "high"),
    (128, 128, 64, 1, "highest"),
    (129, 127, 65, 9, "medium"),
    (130, 257, 5, 2, "highest"),
    (3, 129, 130, 1, "highest"),
]
"""B, V, D, T around tiles of 64 and 128, and two chunks of examples on the emulated device; each with a precision."""

ROLES = ("weights", "biases", "inputs")


def named(weights, biases, labels, inputs, **options):
    return dict(weights=weights, biases=biases, labels=labels, inputs=inputs, **options)


def solve(cuda_array, family, arguments):
    """On the device, from the host and back."""
    loss, grads = LOSS[family](**cuda_array.put_all(arguments))
    arrays = (loss, *grads)
    assert all(array is None or cuda_array.is_own(array) for array in arrays)
    loss, *of_grads = (None if array is None else cuda_array.get(array) for array in arrays)
    return results(loss, fastnce.DenseGrads(*of_grads))


def assert_is_twins(cuda_array, family, arguments, precision="highest"):
    ours = solve(cuda_array, family, {**arguments, "precision": precision, "grad_dtype": "float32"})
    wide = dict(arguments)
    wide |= {name: arguments[name].astype(np.float32) for name in ROLES if arguments[name] is not None}
    truth = results(*TWIN[family](**wide))
    problem = as_sampled(family, **wide)
    assert_accurate(ours, truth, magnitude(problem), naive_float32(problem), precision)


@one_framework
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@both_losses
def test_every_element_is_accurate_at_every_shape(family, shape, cuda_array):
    *sizes, precision = shape
    assert_is_twins(cuda_array, family, named(*operands(*sizes)), precision)


OPTIONS_HERE = {name: option for name, option in OPTIONS.items() if name != "exclude"} | {
    "exclude": lambda rng, y: {"exclude": random_lists(rng, len(y), 150, 40)},
    "all": lambda rng, y: {
        "labels": Ragged(np.where(rng.random(3 * len(y)) < 0.2, -1, y[:, [0, 0, 1]].ravel()), one_without(len(y))),
        "label_weights": rng.uniform(0, 2, 3 * len(y)),
        "exclude": random_lists(rng, len(y), 150, 40),
        "padding": -1,
        "grad_loss": rng.standard_normal(len(y)),
    },
}


def one_without(batch):
    """Offsets of 3 labels each, but for the first example, which has none, and the last."""
    return np.r_[0, np.arange(batch - 1) * 3, 3 * batch]


@one_framework
@pytest.mark.parametrize("option", OPTIONS_HERE)
@both_losses
def test_options_mean_what_they_mean_to_the_twin(family, option, cuda_array):
    arguments = named(*operands(37, 150, 9, 3))
    arguments |= OPTIONS_HERE[option](np.random.default_rng(1), arguments["labels"])
    assert_is_twins(cuda_array, family, arguments)
    fastnce.cuda.check()  # padding is no fault, nor is a label given twice


@one_framework
@pytest.mark.parametrize("half", half_cases(HALVES))
@both_losses
def test_gradients_of_16_bit_arrays_are_rounded_once(family, half, cuda_array):
    dtype = HALVES[half]
    arguments = named(*(a if a.dtype == int else a.astype(dtype) for a in operands(33, 70, 20, 2)))
    assert_is_twins(cuda_array, family, arguments)
    exact = solve(cuda_array, family, {**arguments, "grad_dtype": "float32"})
    rounded = solve(cuda_array, family, arguments)
    np.testing.assert_array_equal(rounded.loss, exact.loss)
    for ours, whole in zip(rounded[1:], exact[1:], strict=True):
        assert ours.dtype == dtype
        np.testing.assert_array_equal(ours, whole.astype(dtype))


@both_losses
def test_the_loss_alone_is_the_loss_beside_gradients(family, cuda_array):
    arguments = named(*operands(24, 50, 6, 2))
    value = VALUE[family](**cuda_array.put_all(arguments))
    assert cuda_array.is_own(value)
    np.testing.assert_array_equal(cuda_array.get(value), solve(cuda_array, family, arguments).loss)


@both_losses
def test_several_axes_of_examples_and_shards(family, cuda_array):
    weights, biases, labels, inputs = operands(24, 50, 6, 2)
    whole = solve(cuda_array, family, named(weights, biases, labels, inputs))
    shards = [sharded(table, "mod") for table in (weights, biases)]
    nested = named(*shards, labels.reshape(2, 3, 4, 2), inputs.reshape(2, 3, 4, 6), partition_strategy="mod")
    parts = solve(cuda_array, family, nested)
    np.testing.assert_array_equal(parts.loss, whole.loss.reshape(2, 3, 4))
    np.testing.assert_array_equal(parts.inputs, whole.inputs.reshape(2, 3, 4, 6))
    np.testing.assert_array_equal(parts.weights, whole.weights)
    np.testing.assert_array_equal(parts.biases, whole.biases)


@one_framework
@pytest.mark.parametrize(("batch", "dim"), [(0, 3), (4, 3), (2, 0)])
@both_losses
def test_no_labels_or_no_columns(family, batch, dim, cuda_array):
    weights, biases, labels, inputs = operands(batch, 7, dim)
    labels = np.full(batch, -1) if dim else labels
    assert_is_twins(cuda_array, family, named(weights, biases, labels, inputs, padding=-1))


@one_framework
@pytest.mark.parametrize("logit", [20, 1e30])
@both_losses
def test_a_certain_prediction_keeps_its_digits(family, logit, cuda_array):
    """Loss and gradient of a label far above all other classes, which each example names twice."""
    biases = np.full(200, -1 if family == "softmax" else -25, np.float32)
    biases[3] = logit
    weights, inputs, labels = np.zeros((200, 2), np.float32), np.ones((2, 2), np.float32), np.full((2, 2), 3)
    ours = solve(cuda_array, family, named(weights, biases, labels, inputs, true_target="mean"))
    if family == "softmax":
        rest = 199 * np.exp(-1 - float(logit))
        expected, slope = np.log1p(rest), -rest / (1 + rest)
    else:
        expected = np.log1p(np.exp(-float(logit))) + 199 * np.log1p(np.exp(-25))
        slope = -1 / (1 + np.exp(min(float(logit), 700)))
    np.testing.assert_allclose(ours.loss, expected, rtol=1e-5)
    np.testing.assert_allclose(ours.biases[3], 2 * slope, rtol=1e-5, atol=1e-38)


@one_framework
@pytest.mark.parametrize("bad", [50, np.iinfo(np.int64).min])
@pytest.mark.parametrize("padding", [None, -7])
@both_losses
def test_a_label_out_of_range_gives_nan_and_is_reported_once(family, padding, bad, cuda_array):
    weights, biases, labels, inputs = operands(6, 50, 4, 2)
    labels[3] = bad
    ours = solve(cuda_array, family, named(weights, biases, labels, inputs, padding=padding))
    np.testing.assert_array_equal(np.isnan(ours.loss), np.arange(6) == 3)
    assert all(np.isfinite(array).all() for array in ours[1:])
    with pytest.raises(ValueError, match=r"labels\[3, 0\] = .* is outside \[0, num_classes = 50\)") as raised:
        fastnce.cuda.check()
    assert "such faults" not in str(raised.value)
    assert ("padding" in str(raised.value)) == (padding is not None)


@one_framework
def test_an_excluded_class_out_of_range_excludes_nothing_and_is_reported(cuda_array):
    arguments = named(*operands(3, 50, 4))
    ours = solve(cuda_array, "softmax", arguments | {"exclude": Ragged([50, -1], [0, 1, 2, 2])})
    np.testing.assert_array_equal(ours.loss, solve(cuda_array, "softmax", arguments).loss)
    with pytest.raises(ValueError, match=r"exclude.values\[\d\] = .*one of 2 such faults"):
        fastnce.cuda.check()


@one_framework
def test_more_classes_than_there_is_room_for_are_refused(cuda_array):
    weights, inputs = np.zeros((2**22 + 1, 0), np.float32), np.zeros((1, 0), np.float32)
    arguments = cuda_array.put_all(named(weights, None, np.zeros(1, int), inputs))
    with pytest.raises(ValueError, match="num_classes = 4194305: expected at most 4194304 on a CUDA device"):
        fastnce.softmax_loss(**arguments)


def test_out_is_for_the_cpu_alone(cuda_array):
    arguments = cuda_array.put_all(named(*operands(3, 5, 2)))
    with pytest.raises(ValueError, match="out: expected None on a CUDA device"):
        fastnce.softmax_loss_and_grad(**arguments, out=(np.zeros((5, 2), np.float32), None))


def test_progress_is_reported_at_the_end(cuda_array):
    arguments = cuda_array.put_all(named(*operands(3, 5, 2)))
    calls = []
    report = lambda *numbers: calls.append(numbers)  # noqa: E731
    fastnce.softmax_loss(**arguments, progress=report)
    fastnce.rank_of_labels(**arguments, progress=report)
    fastnce.top_k(*(arguments[name] for name in ROLES), 2, progress=report)
    assert calls == [(15, 15)] * 3
    with pytest.raises(ZeroDivisionError):
        fastnce.sigmoid_loss_and_grad(**arguments, progress=lambda done, total: 1 / 0)


# ---- evaluation ----------------------------------------------------------------------------------------------


def assert_evaluates_as_twin(cuda_array, weights, biases, inputs, labels, k, exclude=None, padding=None, **options):
    """Where scores are exact."""
    arguments = dict(weights=weights, biases=biases, inputs=inputs, exclude=exclude)
    wide = {
        name: array if array is None or name == "exclude" or isinstance(array, list) else array.astype(np.float64)
        for name, array in arguments.items()
    }
    strategy = {name: value for name, value in options.items() if name == "partition_strategy"}
    on_device = cuda_array.put_all({**arguments, **options})
    pair = fastnce.top_k(**on_device, k=k)
    assert all(map(cuda_array.is_own, pair))
    scores, ids = map(cuda_array.get, pair)
    true_scores, true_ids = reference.top_k(**wide, k=k, **strategy)
    assert scores.dtype == np.float32
    np.testing.assert_array_equal(ids, true_ids)
    np.testing.assert_array_equal(scores, true_scores)
    ranks = fastnce.rank_of_labels(**on_device, **cuda_array.put_all({"labels": labels}), padding=padding)
    assert cuda_array.is_own(ranks)
    ranks = cuda_array.get(ranks)
    assert ranks.dtype == np.float64
    np.testing.assert_array_equal(ranks, reference.rank_of_labels(**wide, labels=labels, padding=padding, **strategy))


EVALUATED = [
    (1, 1, 1, 1, "highest", "float32"),
    (2, 3, 2, 3, "high", "bfloat16"),
    (5, 128, 64, 1, "medium", "float16"),
    (7, 384, 65, 2, "high", "float32"),
    (129, 129, 3, 1, "highest", "bfloat16"),
    (3, 385, 130, 2, "medium", "bfloat16"),
    (1, 1600, 9, 4, "medium", "float32"),
]
"""B, V, D, T around tiles, and blocks of 384 classes on the emulated device; precision and dtype."""


@one_framework
@pytest.mark.parametrize("shape", half_cases(EVALUATED), ids=str)
def test_evaluation_is_the_twins_at_every_shape(shape, cuda_array):
    batch, classes, dim, num_true, precision, dtype = shape
    tables = small_integers(batch, classes, dim, HALVES.get(dtype, dtype))
    labels = np.random.default_rng(1).integers(classes, size=(batch, num_true))
    assert_evaluates_as_twin(cuda_array, *tables, labels, min(classes, 10), precision=precision)


@one_framework
@pytest.mark.parametrize("most", [0, 5, 390])
def test_excluded_classes_are_left_out(most, cuda_array):
    rng = np.random.default_rng(2)
    exclude = random_lists(rng, 20, 400, most)
    labels = rng.integers(400, size=(20, 2))
    labels[:, 0] = [exclude.values[begin] if begin < end else 0 for begin, end in itertools.pairwise(exclude.offsets)]
    assert_evaluates_as_twin(cuda_array, *small_integers(20, 400, 20), labels, 60, exclude)
    fastnce.cuda.check()


@one_framework
@pytest.mark.parametrize("k", [1, 40, 41, 1500])
def test_fewer_classes_than_k_leave_places_empty(k, cuda_array):
    exclude = Ragged(np.r_[np.arange(40), np.arange(39), 5, 5], [0, 40, 79, 81])
    assert_evaluates_as_twin(cuda_array, *small_integers(3, 40, 2), np.zeros(3, int), k, exclude)


@one_framework
@pytest.mark.parametrize("strategy", ["div", "mod"])
def test_tables_may_be_in_shards(strategy, cuda_array):
    weights, biases, inputs = small_integers(10, 300, 6)
    shards = [sharded(table, strategy) for table in (weights, biases)]
    assert_evaluates_as_twin(cuda_array, *shards, inputs, np.arange(10), 20, partition_strategy=strategy)


@one_framework
@pytest.mark.parametrize(
    "products",
    half_cases([("float32", "highest"), ("float16", "high"), ("bfloat16", "highest"), ("float16", "medium")]),
    ids="-".join,
)
def test_equal_rows_tie_bit_for_bit_wherever_they_stand(products, cuda_array):
    """In any tile, any lane, any block, and as labels."""
    dtype, precision = products
    kind = HALVES.get(dtype, dtype)
    rng = np.random.default_rng(0)
    classes, batch, dim = 500, 5, 131
    row = rng.permutation(classes) % 50
    weights = rng.standard_normal((50, dim)).astype(kind)[row]
    biases = rng.standard_normal(50).astype(kind)[row]
    inputs = rng.standard_normal((batch, dim)).astype(kind)
    labels = np.array([np.flatnonzero(row == b) for b in range(batch)])
    arguments = cuda_array.put_all(named(weights, biases, labels, inputs, precision=precision))
    ranks = cuda_array.get(fastnce.rank_of_labels(**arguments))
    assert (ranks == ranks[:, :1]).all()
    np.testing.assert_array_equal(ranks % 10, np.full(ranks.shape, 1 + 9 / 2))
    del arguments["labels"]
    scores, ids = map(cuda_array.get, fastnce.top_k(**arguments, k=classes))
    for b in range(batch):
        own = ids[b][np.isin(ids[b], labels[b])]
        np.testing.assert_array_equal(own, labels[b])
        assert len(np.unique(scores[b][np.isin(ids[b], labels[b])])) == 1
    np.testing.assert_array_equal(np.sort(ids), np.tile(np.arange(classes), (batch, 1)))
    assert (np.diff(scores) <= 0).all()


@one_framework
@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_scores_keep_the_promise_of_their_precision(precision, cuda_array):
    weights, biases, _, inputs = operands(5, 300, 70)
    arguments = cuda_array.put_all(dict(weights=weights, biases=biases, inputs=inputs, precision=precision))
    scores, ids = map(cuda_array.get, fastnce.top_k(**arguments, k=300))
    wide = [array.astype(np.float64) for array in (weights, biases, inputs)]
    true = np.take_along_axis(wide[2] @ wide[0].T + wide[1], ids, axis=1)
    scale = np.take_along_axis(np.abs(wide[2]) @ np.abs(wide[0].T) + np.abs(wide[1]), ids, axis=1)
    naive = np.take_along_axis(inputs @ weights.T + biases, ids, axis=1)
    assert (np.abs(scores - true) <= allowed_error(true, scale, naive, scores.dtype, precision)).all()


@one_framework
def test_scores_that_are_not_finite(cuda_array):
    """Products of parts make NaN of an infinite weight: biases are infinite."""
    biases = np.array([np.nan, -np.inf, 1.0, np.inf, np.nan, 2.0, -np.inf, -0.0, 0.0], np.float32)
    weights, inputs = np.zeros((9, 1), np.float32), np.ones((3, 1), np.float32)
    labels = np.tile(np.arange(9), (3, 1))
    for k in (9, 2):
        assert_evaluates_as_twin(cuda_array, weights, biases, inputs, labels, k)
    many = np.tile(weights, (60, 1)), np.tile(biases, 60)
    assert_evaluates_as_twin(cuda_array, *many, inputs, labels, 400)
    nan = np.full((3, 1), np.nan, np.float32)
    assert_evaluates_as_twin(cuda_array, *many, nan, labels, 4)


def test_ranks_have_the_shape_of_the_labels(cuda_array):
    tables = small_integers(4, 50, 3)
    matrix = np.array([[3, 5], [0, -1], [-1, -1], [49, 49]])
    for labels in (matrix, matrix[:, 0], Ragged(np.array([3, 5, 0, 49, 49]), np.array([0, 2, 3, 3, 5]))):
        assert_evaluates_as_twin(cuda_array, *tables, labels, 2, padding=-1)
    weights, biases, inputs = tables
    nested = cuda_array.put_all(named(weights, biases, matrix.reshape(2, 2, 2), inputs.reshape(2, 2, 3), padding=-1))
    expected = reference.rank_of_labels(weights, biases, matrix, inputs, padding=-1)
    np.testing.assert_array_equal(cuda_array.get(fastnce.rank_of_labels(**nested)), expected.reshape(2, 2, 2))
    del nested["labels"], nested["padding"]
    assert [cuda_array.get(array).shape for array in fastnce.top_k(**nested, k=3)] == [(2, 2, 3)] * 2


@one_framework
def test_one_example_may_have_more_labels_than_a_block_has_classes(cuda_array):
    lists = Ragged(np.r_[np.arange(400), np.zeros(30, int)], np.r_[0, 1, 400, np.linspace(401, 430, 18).astype(int)])
    assert_evaluates_as_twin(cuda_array, *small_integers(20, 400, 4), lists, 1)


@one_framework
@pytest.mark.parametrize("sizes", [(0, 7, 3), (2, 7, 0)])
def test_nothing_to_evaluate(sizes, cuda_array):
    assert_evaluates_as_twin(cuda_array, *small_integers(*sizes), np.zeros((sizes[0], 2), int), 3)
    assert_evaluates_as_twin(cuda_array, *small_integers(*sizes), np.zeros((sizes[0], 0), int), 0)


@one_framework
def test_a_label_out_of_range_has_rank_nan_and_is_reported_once(cuda_array):
    weights, biases, inputs = small_integers(3, 800, 4)
    labels = np.array([[3, 800], [4, 5], [-1, 6]])
    arguments = cuda_array.put_all(named(weights, biases, labels, inputs))
    ranks = cuda_array.get(fastnce.rank_of_labels(**arguments, padding=-1))
    np.testing.assert_array_equal(np.isnan(ranks), [[False, True], [False, False], [True, False]])
    with pytest.raises(ValueError, match=r"labels\[0, 1\] = 800 is outside .*not padding = -1$"):
        fastnce.cuda.check()


@one_framework
def test_wrong_lists_are_reported_and_give_no_ranks(cuda_array):
    """Nor best classes: nothing that should be left out is taken for one."""
    weights, biases, inputs = small_integers(3, 800, 4)
    arguments = dict(weights=weights, biases=biases, inputs=inputs)
    broken = cuda_array.put_all(arguments | {"exclude": Ragged(np.array([1, 2]), np.array([0, 1, 3, 3]))})
    scores, ids = map(cuda_array.get, fastnce.top_k(**broken, k=2))
    np.testing.assert_array_equal(ids[1:], np.full((2, 2), -1))
    np.testing.assert_array_equal(np.isnan(scores), np.repeat([[False], [True], [True]], 2, axis=1))
    ranks = cuda_array.get(fastnce.rank_of_labels(**broken, labels=cuda_array.put(np.arange(3))))
    np.testing.assert_array_equal(np.isnan(ranks), [False, True, True])
    with pytest.raises(ValueError, match=r"exclude.offsets\[[23]\] = 3"):
        fastnce.cuda.check()
    wrong = cuda_array.put_all(arguments | {"exclude": Ragged(np.array([800, 2]), np.array([0, 1, 2, 2]))})
    _, ids = fastnce.top_k(**wrong, k=800)
    np.testing.assert_array_equal((cuda_array.get(ids) == -1).sum(axis=1), [0, 1, 0])
    with pytest.raises(ValueError, match=r"exclude.values\[0\] = 800 is outside \[0, num_classes = 800\)$"):
        fastnce.cuda.check()


def test_a_negative_k_is_refused(cuda_array):
    weights, biases, inputs = map(cuda_array.put, small_integers(3, 8, 4))
    with pytest.raises(ValueError, match="k = -1: expected at least 0"):
        fastnce.top_k(weights, biases, inputs, -1)
