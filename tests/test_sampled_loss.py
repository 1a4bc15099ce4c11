"""The sampled losses and their gradients against TensorFlow's numbers and against the float64 twin."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

import fastnce
from cases import (
    EMPTY,
    Case,
    assert_matches_twin,
    golden_id,
    golden_loss_problem,
    golden_losses,
    shape_sweep,
    sizes_id,
)
from tolerances import Results, assert_same_as_tensorflow


def shards_of(table, count, strategy):
    """A table cut as ``tf.nn.embedding_lookup`` expects: runs of ids, the first longer, or dealt out."""
    return np.array_split(table, count) if strategy == "div" else [table[i::count] for i in range(count)]


@pytest.mark.parametrize("case", golden_losses("nce", "ssm"), ids=golden_id)
def test_loss_and_gradients_are_tensorflows(case):
    ids, ours = golden_loss_problem(case, "float32").solve()
    np.testing.assert_array_equal(ids, np.flatnonzero(case["db"]))
    assert_same_as_tensorflow(ours.loss, case["loss"])
    assert_same_as_tensorflow(ours.inputs, case["dx"])
    assert_same_as_tensorflow(ours.weights, np.array(case["dW"])[ids])
    assert_same_as_tensorflow(ours.biases, np.array(case["db"])[ids])


@pytest.mark.parametrize("case", shape_sweep("float32", 4) + shape_sweep("float64", 2), ids=str)
def test_every_element_is_accurate_at_every_shape(case):
    problem = case.problem()
    assert_matches_twin(problem.solve(), problem)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "sizes",
    [
        *EMPTY,
        dict(batch=1027, dim=5, sampled=3),
        dict(batch=3, dim=1027, sampled=5),
        dict(batch=5, dim=3, sampled=1027),
        dict(batch=67, dim=19, sampled=35, num_true=70),
    ],
    ids=sizes_id,
)
@pytest.mark.parametrize("remove_hits", [False, True], ids=["all", "no-hits"])
def test_empty_and_lopsided_problems_are_accurate(sizes, dtype, remove_hits):
    problem = Case(**sizes, dtype=dtype, remove_hits=remove_hits).problem()
    assert_matches_twin(problem.solve(), problem)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_results_have_the_dtype_and_shapes_documented(dtype):
    problem = Case(batch=4, dim=3, sampled=6, num_true=2, dtype=dtype).problem()
    loss, grads = fastnce.nce_loss_and_grad(**problem.arguments())
    assert (loss.dtype, loss.shape) == (dtype, (4,))
    assert (grads.inputs.dtype, grads.inputs.shape) == (dtype, (4, 3))
    ids = np.unique(np.concatenate([problem.labels.ravel(), problem.sampled_values[0]]))
    assert grads.rows.ids.dtype == np.int64
    np.testing.assert_array_equal(grads.rows.ids, ids)
    assert (grads.rows.weights.dtype, grads.rows.weights.shape) == (dtype, (len(ids), 3))
    assert (grads.rows.biases.dtype, grads.rows.biases.shape) == (dtype, (len(ids),))


@pytest.mark.parametrize("case", [Case(), Case(batch=70, dim=65, sampled=130, num_true=3, remove_hits=True)], ids=str)
def test_the_loss_alone_is_the_loss_beside_gradients(case):
    arguments = case.problem().arguments()
    np.testing.assert_array_equal(fastnce.nce_loss(**arguments), fastnce.nce_loss_and_grad(**arguments)[0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_padded_rows_repeat_the_last_id_with_zeros(dtype):
    problem = Case(batch=9, dim=5, num_true=2, dtype=dtype).problem()
    (ids, exact), (padded_ids, padded) = problem.solve(), problem.solve(pad_rows=True)
    used, rows = len(ids), problem.labels.size + len(problem.sampled_values[0])
    assert used < rows
    np.testing.assert_array_equal(padded_ids, np.concatenate([ids, np.full(rows - used, ids[-1])]))
    for ours, expected in ((padded.weights, exact.weights), (padded.biases, exact.biases)):
        np.testing.assert_array_equal(ours, np.concatenate([expected, np.zeros((rows - used, *ours.shape[1:]))]))
    empty_ids, empty = Case(batch=0, sampled=0).problem().solve(pad_rows=True)
    assert len(empty_ids) == len(empty.weights) == len(empty.biases) == 0
    with pytest.raises(TypeError, match="pad_rows is an int: expected a bool"):
        problem.solve(pad_rows=1)


def test_positional_arguments_stand_as_in_tensorflow():
    problem = Case(num_true=2, remove_hits=True).problem()
    positional = (
        problem.weights,
        problem.biases,
        problem.labels,
        problem.inputs,
        7,
        problem.num_classes,
        2,
        problem.sampled_values,
        True,
        "a name, ignored",
    )
    np.testing.assert_array_equal(fastnce.nce_loss(*positional), fastnce.nce_loss(**problem.arguments()))


def test_without_candidates_they_are_sampled_log_uniformly_and_uniquely():
    problem = Case(batch=6, dim=9, sampled=40, num_true=2, remove_hits=True).problem()
    values = fastnce.log_uniform_candidate_sampler(problem.labels, 2, 12, True, problem.num_classes, seed=(5, 6))
    arguments = {**problem.arguments(), "num_sampled": 12}
    for function in (fastnce.nce_loss, fastnce.nce_loss_and_grad):
        sampled = function(**{**arguments, "sampled_values": None}, seed=(5, 6))
        given = function(**{**arguments, "sampled_values": values})
        if function is fastnce.nce_loss_and_grad:
            sampled, given = Results.of(*sampled), Results.of(*given)
        np.testing.assert_equal(sampled, given)


def test_no_seed_gives_new_candidates_each_time():
    arguments = {**Case(sampled=1000).problem().arguments(), "sampled_values": None, "num_sampled": 20}
    assert not np.array_equal(fastnce.nce_loss(**arguments), fastnce.nce_loss(**arguments))


def test_accidental_hits_contribute_exactly_nothing():
    """Candidates that are all hits: the loss and gradients of no candidates at all."""
    problem = Case(batch=3, dim=5, num_true=1).problem()
    problem = replace(problem, labels=np.full((3, 1), 4))
    ids = np.array([4, 4, 4])
    true_count = problem.sampled_values[1]
    arguments = {**problem.arguments(), "remove_accidental_hits": True}
    hits = problem.solve(**{**arguments, "num_sampled": 3, "sampled_values": (ids, true_count, np.ones(3))})
    none = problem.solve(**{**arguments, "num_sampled": 0, "sampled_values": (ids[:0], true_count, np.ones(0))})
    np.testing.assert_equal(hits, none)


@pytest.mark.parametrize("num_true", [1, 2])
@pytest.mark.parametrize("count", [0.0, np.inf, np.nan])
def test_the_count_of_a_removed_hit_does_not_matter(count, num_true):
    problem = Case(batch=3, dim=5, sampled=40, num_true=num_true, remove_hits=True).problem()
    hit = problem.sampled_values[0][0]
    problem = replace(problem, labels=np.full((3, num_true), hit))
    before = problem.solve()
    problem.sampled_values[2][problem.sampled_values[0] == hit] = count  # the arrays are this test's own
    np.testing.assert_equal(problem.solve(), before)


@pytest.mark.parametrize("bias", [2e30, 1e38])
def test_removed_hits_stay_out_whatever_their_bias(bias):
    """The true logit is so large that its own loss and gradient are 0."""
    problem = Case(batch=3, dim=5, sampled=40, remove_hits=True).problem()
    hit = problem.sampled_values[0][0]
    problem = replace(problem, labels=np.full((3, 1), hit))
    problem.biases[hit] = bias  # the arrays are this test's own
    others = problem.sampled_values[0] != hit
    ids, true_count, sampled_count = problem.sampled_values
    without = replace(problem, sampled_values=(ids[others], true_count, sampled_count[others]))
    for ours, expected in zip(problem.solve()[1], without.solve()[1], strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", ["vector", "list", "scalar", "zero-dimensional", "one-element"])
def test_grad_loss_scales_gradients_and_not_the_loss(shape):
    problem = Case(batch=9, dim=5, num_true=2, remove_hits=True).problem()
    factors = np.random.default_rng(1).standard_normal(9).astype(np.float32)
    given, dense = {
        "vector": (factors, factors),
        "list": (factors.tolist(), factors),
        "scalar": (-2.5, np.full(9, -2.5)),
        "zero-dimensional": (np.float32(0.5), np.full(9, 0.5)),
        "one-element": (np.array([3.0], np.float32), np.full(9, 3.0)),
    }[shape]
    scaled = replace(problem, options={**problem.options, "grad_loss": dense})
    assert_matches_twin(problem.solve(grad_loss=given), scaled)
    np.testing.assert_array_equal(problem.solve(grad_loss=given)[1].loss, fastnce.nce_loss(**problem.arguments()))


@pytest.mark.parametrize("strategy", ["div", "mod"])
@pytest.mark.parametrize("sharded", ["weights", "biases", "both"])
@pytest.mark.parametrize("count", [1, 3, 5])
@pytest.mark.parametrize("container", [list, tuple])
def test_shards_are_one_table(strategy, sharded, count, container):
    problem = Case(batch=6, dim=7, sampled=10, num_true=2).problem()
    assert problem.num_classes % 5 and problem.num_classes % 3  # uneven shards
    names = ("weights", "biases") if sharded == "both" else (sharded,)
    changes = {name: container(shards_of(getattr(problem, name), count, strategy)) for name in names}
    assert_matches_twin(problem.solve(partition_strategy=strategy, **changes), problem)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_strided_arrays_are_read_in_place_or_copied(dtype):
    problem = Case(batch=6, dim=7, sampled=10, num_true=2, dtype=dtype).problem()
    wide_weights = np.full((2 * len(problem.weights), 11), np.nan, dtype)
    wide_weights[::2, 2:9] = problem.weights
    wide_inputs = np.full((3 * len(problem.inputs), 9), np.nan, dtype)
    wide_inputs[::3, :7] = problem.inputs
    spread_biases = np.full(3 * len(problem.biases), np.nan, dtype)
    spread_biases[::3] = problem.biases
    ids, true_count, sampled_count = problem.sampled_values
    changes = dict(
        weights=wide_weights[::2, 2:9],
        inputs=wide_inputs[::3, :7],
        biases=spread_biases[::3],
        labels=np.asfortranarray(problem.labels),
        sampled_values=(
            np.repeat(ids, 2)[::2],
            np.asfortranarray(true_count),
            np.repeat(sampled_count, 2)[::2],
        ),
    )
    assert_matches_twin(problem.solve(**changes), problem)


def test_rows_and_biases_in_reverse_order_are_read_in_place():
    problem = Case(batch=6, dim=7, sampled=10).problem()
    changes = {name: getattr(problem, name)[::-1].copy()[::-1] for name in ("weights", "biases", "inputs")}
    assert changes["weights"].strides[0] < 0
    assert_matches_twin(problem.solve(**changes), problem)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int32, np.uint32, np.uint64])
def test_ids_may_have_any_integer_type(dtype):
    problem = Case(num_true=2).problem()
    ids, *counts = problem.sampled_values
    changes = {"labels": problem.labels.astype(dtype), "sampled_values": (ids.astype(dtype), *counts)}
    assert_matches_twin(problem.solve(**changes), problem)


def test_labels_may_be_lists_and_a_vector_when_there_is_one_each():
    problem = Case(batch=6).problem()
    for labels in (problem.labels.tolist(), problem.labels[:, 0], problem.labels[:, 0].tolist()):
        assert_matches_twin(problem.solve(labels=labels), problem)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_expected_counts_may_have_any_float_type(dtype):
    problem = Case(num_true=2).problem()
    ids, true_count, sampled_count = problem.sampled_values
    true_count, sampled_count = (
        true_count.astype(np.float16),
        sampled_count.astype(np.float16),
    )  # exact in all three
    problem = replace(problem, sampled_values=(ids, true_count, sampled_count))
    values = (ids, true_count.astype(dtype), sampled_count.astype(dtype))
    assert_matches_twin(problem.solve(sampled_values=values), problem)


@pytest.mark.parametrize(
    ("num_true", "true_count"),
    [
        (2, 0.25),
        (2, np.float32(0.25)),
        (2, np.full((1,), 0.25)),
        (2, np.array([[0.5], [1], [0.25], [2]])),
        (1, np.array([0.5, 1, 0.25, 2])),
        (1, [0.5, 1, 0.25, 2]),
    ],
    ids=["number", "float32", "one-element", "B1", "B", "list"],
)
def test_true_counts_stretch_to_all_true_classes(num_true, true_count):
    problem = Case(batch=4, num_true=num_true).problem()
    ids, _, _ = problem.sampled_values
    column = np.reshape(true_count, (-1, 1))
    dense = (ids, np.broadcast_to(column, (4, num_true)).copy(), np.full(len(ids), 0.5))
    changes = {"sampled_values": (ids.tolist(), true_count, 0.5)}
    assert_matches_twin(problem.solve(**changes), replace(problem, sampled_values=dense))


def test_fewer_classes_than_rows_are_fine():
    problem = Case(batch=6, sampled=10).problem()
    wanted = problem.solve()
    tall = {"weights": np.vstack([problem.weights, np.full((5, 8), np.nan, np.float32)])}
    np.testing.assert_equal(problem.solve(**tall), wanted)


def test_a_read_only_memory_map_of_more_than_2_to_the_31_elements(tmp_path):
    """Row offsets need 64 bits. The file is sparse: only the touched pages exist."""
    dim = 1024
    classes = 2**31 // dim + 8
    if shutil.disk_usage(tmp_path).free < 4 * classes * dim:
        pytest.skip(f"{tmp_path} has no room for a table of {4 * classes * dim / 2**30:.1f} GiB")
    problem = Case(batch=4, dim=dim, sampled=6).problem()
    table = np.memmap(tmp_path / "weights", np.float32, "w+", shape=(classes, dim))
    far = np.array([0, 2**20, 2**21 - 1, 2**21, *range(classes - 5, classes)])[: problem.num_classes]
    table[far] = problem.weights
    biases = np.zeros(classes, np.float32)
    biases[far] = problem.biases
    ids, *counts = problem.sampled_values
    del table
    changes = dict(
        weights=np.memmap(tmp_path / "weights", np.float32, "r", shape=(classes, dim)),
        biases=biases,
        labels=far[problem.labels],
        num_classes=classes,
        sampled_values=(far[ids], *counts),
    )
    row_ids, results = problem.solve(**changes)
    assert_matches_twin((np.searchsorted(far, row_ids), results), problem)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [-1e4, 1e4])
def test_huge_logits_stay_finite_and_accurate(scale, dtype):
    problem = Case(batch=6, dim=1, sampled=10, num_true=2, dtype=dtype, remove_hits=True).problem()
    problem = replace(problem, inputs=np.full((6, 1), scale, dtype), weights=np.abs(problem.weights) + 1)
    ids, results = problem.solve()
    assert all(np.isfinite(array).all() for array in results)
    assert_matches_twin((ids, results), problem)


def test_a_nan_example_spoils_only_what_it_touches():
    problem = Case(batch=6, dim=5, sampled=10, num_true=2).problem()
    broken = problem.inputs.copy()
    broken[2, 3] = np.nan
    (ids, results), (_, clean) = problem.solve(inputs=broken), problem.solve()
    others = np.arange(6) != 2
    assert np.isnan(results.loss[2]) and np.isnan(results.inputs[2]).all()
    np.testing.assert_array_equal(results.loss[others], clean.loss[others])
    np.testing.assert_array_equal(results.inputs[others], clean.inputs[others])
    touched = np.isin(ids, np.concatenate([problem.labels[2], problem.sampled_values[0]]))
    assert not touched.all()
    np.testing.assert_array_equal(np.isnan(results.biases), touched)
    np.testing.assert_array_equal(results.weights[~touched], clean.weights[~touched])


@pytest.mark.parametrize("factor", [np.inf, -np.inf])
def test_removed_hits_stay_out_of_gradients_with_an_infinite_factor(factor):
    """0 times an infinite factor would be NaN."""
    problem = Case(batch=6, dim=5, sampled=10, num_true=1, remove_hits=True).problem()
    problem.labels[:] = problem.sampled_values[0][:6, None]  # the arrays are this test's own
    problem.options["grad_loss"] = np.array([factor, 1, 1, 1, 1, 1], np.float32)
    ours, true = problem.solve()[1], problem.truth()[1]
    for result, expected in zip(ours, true, strict=True):
        np.testing.assert_array_equal(np.isnan(result), np.isnan(expected))


@pytest.mark.parametrize("num_true", [1, 2])
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_infinities_and_nans_come_out_where_the_formulas_put_them(value, num_true):
    """No error, no spoiled neighbour."""
    problem = Case(batch=6, dim=5, sampled=10, num_true=num_true).problem()
    problem.biases[problem.sampled_values[0][0]] = value  # the arrays are this test's own
    results, truth = problem.solve()[1], problem.truth()[1]
    for ours, true in zip(results, truth, strict=True):
        np.testing.assert_array_equal(np.isnan(ours), np.isnan(true))
        np.testing.assert_array_equal(np.where(np.isinf(ours), ours, 0), np.where(np.isinf(true), true, 0))
