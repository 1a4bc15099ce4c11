"""Candidates ``[G, S]``, a set for each group of examples: every loss against its float64 twin."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import fastnce
from cases import EVERYTHING, Case, assert_matches_twin, assert_temperature_divides_products, sizes_id
from differences import assert_slopes
from fastnce import Ragged
from losses import EVERY_LOSS, LOSSES
from tolerances import Results

GROUPS = [
    dict(batch=2, groups=2),
    dict(batch=1, groups=1),
    dict(batch=64, groups=64),
    dict(batch=64, groups=8),  # 8 examples are the fewest of a GEMM
    dict(batch=63, groups=9),
    dict(batch=36, groups=4),
    dict(batch=34, groups=17),
    dict(batch=130, groups=2),
    dict(batch=387, groups=3),
]
"""Examples of a group: 1, 2, around 8, around tiles of 64 and 128."""
SHAPES = [
    dict(dim=1, sampled=1),
    dict(dim=8, sampled=7),
    dict(dim=17, sampled=33),
    dict(dim=64, sampled=64),
    dict(dim=131, sampled=65),
    dict(dim=300, sampled=257),
    dict(dim=3, sampled=1030),
]
"""Around the lanes of every vector, the registers of a sum, and the tiles."""
FLAGS = ["remove_hits", "distinct", "no_biases", "no_counts", "padded", "ragged", "label_weights", "excluded"]


@pytest.mark.parametrize("groups", GROUPS, ids=sizes_id)
@pytest.mark.parametrize("sizes", SHAPES, ids=sizes_id)
@pytest.mark.parametrize("loss", ["nce", "softmax"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_element_is_accurate_at_every_shape(loss, sizes, groups, dtype):
    seed = groups["batch"] + sizes["dim"]
    case = Case(loss=loss, **groups, **sizes, num_true=1 + seed % 3, dtype=dtype, remove_hits=bool(seed % 2), seed=seed)
    problem = case.problem()
    assert_matches_twin(problem.solve(), problem)


@pytest.mark.parametrize("groups", [dict(batch=24, groups=24), dict(batch=24, groups=8), dict(batch=40, groups=4)])
@pytest.mark.parametrize("flag", FLAGS)
@pytest.mark.parametrize("loss", EVERY_LOSS, ids=str)
def test_every_option_holds_for_every_loss(loss, flag, groups):
    problem = Case(loss=loss.name, **groups, dim=19, sampled=37, num_true=2, **{flag: True}).problem()
    assert_matches_twin(problem.solve(), problem)


@pytest.mark.parametrize("groups", [dict(batch=24, groups=24), dict(batch=28, groups=4), dict(batch=40, groups=4)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", EVERY_LOSS, ids=str)
def test_a_temperature_divides_the_products_of_every_group(loss, dtype, groups):
    problem = Case(loss=loss.name, **groups, dim=19, sampled=37, num_true=2, dtype=dtype, remove_hits=True).problem()
    assert_temperature_divides_products(problem)


@pytest.mark.parametrize("groups", [dict(batch=24, groups=24), dict(batch=28, groups=4), dict(batch=40, groups=4)])
@pytest.mark.parametrize("remove_hits", [False, True], ids=["all", "no-hits"])
@pytest.mark.parametrize("loss", EVERY_LOSS, ids=str)
def test_all_options_together(loss, remove_hits, groups):
    problem = Case(loss=loss.name, **groups, dim=35, sampled=50, remove_hits=remove_hits, **EVERYTHING).problem()
    assert_matches_twin(problem.solve(), problem)


@pytest.mark.parametrize(
    "sizes",
    [
        dict(batch=0, groups=3),
        dict(batch=6, groups=3, sampled=0),
        dict(batch=6, groups=3, dim=0),
        dict(batch=6, groups=3, num_true=0),
        dict(batch=6, groups=6, num_true=0, sampled=0),
    ],
    ids=sizes_id,
)
@pytest.mark.parametrize("loss", EVERY_LOSS, ids=str)
def test_empty_problems(loss, sizes):
    problem = Case(loss=loss.name, **sizes).problem()
    assert_matches_twin(problem.solve(), problem)


@pytest.mark.parametrize("groups", [dict(batch=30, groups=30), dict(batch=30, groups=10), dict(batch=60, groups=4)])
@pytest.mark.parametrize("per_example", [1, 20, 400])
@pytest.mark.parametrize("loss", ["nce", "softmax"])
def test_lists_of_excluded_classes_of_any_length(loss, per_example, groups):
    """Few are compared one by one, many pass a filter first."""
    problem = Case(loss=loss, **groups, dim=9, sampled=300, num_true=2, remove_hits=True).problem()
    rng = np.random.default_rng(per_example)
    lengths = rng.integers(2 * per_example, size=problem.batch)
    offsets = np.append(0, np.cumsum(lengths))
    excluded = Ragged(rng.integers(problem.num_classes, size=offsets[-1]), offsets)
    problem = replace(problem, options={**problem.options, "exclude": excluded})
    assert_matches_twin(problem.solve(), problem)


@pytest.mark.parametrize("groups", [dict(batch=12, groups=12), dict(batch=24, groups=2)])
@pytest.mark.parametrize("loss", EVERY_LOSS, ids=str)
def test_groups_with_the_same_candidates_are_one_group(loss, groups):
    problem = Case(loss=loss.name, batch=groups["batch"], dim=20, sampled=45, num_true=2, dtype="float64").problem()
    ids, true_count, sampled_count = problem.sampled_values
    repeated = (np.tile(values, (groups["groups"], 1)) for values in (ids, sampled_count) if values is not None)
    ids, sampled_count = (*repeated, None)[:2]
    own_ids, own = problem.solve()
    same_ids, same = replace(problem, sampled_values=(ids, true_count, sampled_count)).solve()
    np.testing.assert_array_equal(same_ids, own_ids)
    for ours, expected in zip(same, own, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("loss", EVERY_LOSS, ids=str)
def test_one_group_given_as_a_matrix_is_the_same_call(loss):
    problem = Case(loss=loss.name, batch=20, dim=20, sampled=45, num_true=2, groups=1).problem()
    ids, true_count, sampled_count = problem.sampled_values
    flat = (np.ravel(ids), true_count, None if sampled_count is None else np.ravel(sampled_count))
    np.testing.assert_equal(problem.solve(), replace(problem, sampled_values=flat).solve())


@pytest.mark.parametrize("groups", [dict(batch=96, groups=96), dict(batch=96, groups=16), dict(batch=480, groups=3)])
@pytest.mark.parametrize("options", [dict(num_true=1), dict(remove_hits=True, **EVERYTHING)], ids=["plain", "all"])
@pytest.mark.parametrize("loss", ["nce", "softmax", "weighted"])
def test_the_number_of_threads_changes_no_bit(loss, options, groups, set_threads):
    problem = Case(loss=loss, **groups, dim=100, sampled=200, **options).problem()
    solutions = []
    for threads in (1, 2, 3, 7):
        set_threads(threads)
        solutions.append(problem.solve())
    for solution in solutions[1:]:
        np.testing.assert_equal(solution, solutions[0])


@pytest.mark.parametrize("groups", [dict(batch=18, groups=18), dict(batch=36, groups=3)])
@pytest.mark.parametrize("loss", EVERY_LOSS, ids=str)
def test_the_loss_alone_is_the_loss_beside_gradients(loss, groups):
    problem = Case(loss=loss.name, **groups, dim=65, sampled=70, num_true=3, remove_hits=True).problem()
    np.testing.assert_array_equal(loss.library(suffix="")(**problem.arguments()), problem.solve()[1].loss)


@pytest.mark.parametrize("groups", [dict(batch=6, groups=6), dict(batch=6, groups=3), dict(batch=16, groups=2)])
@pytest.mark.parametrize("loss", ["nce", "softmax"])
def test_gradients_are_slopes_of_the_loss(loss, groups):
    case = Case(loss=loss, **groups, dim=3, sampled=5, num_true=2, dtype="float64", remove_hits=True)
    problem = case.problem()
    factors = np.random.default_rng(1).standard_normal(problem.batch)
    ids, grads = problem.solve(grad_loss=factors)
    value = LOSSES[loss].library(suffix="")
    arguments = problem.arguments()

    def along(name):
        return lambda array: value(**{**arguments, name: array})

    assert_slopes(grads.inputs, along("inputs"), problem.inputs, factors)
    dense = np.zeros_like(problem.weights)
    dense[ids] = grads.weights
    assert_slopes(dense, along("weights"), problem.weights, factors)
    dense = np.zeros_like(problem.biases)
    dense[ids] = grads.biases
    assert_slopes(dense, along("biases"), problem.biases, factors)


@pytest.mark.parametrize("groups", [dict(batch=9, groups=9), dict(batch=18, groups=2)])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("loss", EVERY_LOSS, ids=str)
def test_halves_are_computed_in_float32(loss, dtype, groups):
    problem = Case(loss=loss.name, **groups, dim=37, sampled=50, num_true=2, remove_hits=True).problem()
    if dtype == "float16":
        narrow, wide = (lambda a: a.astype(np.float16)), (lambda a: a.astype(np.float32))
    else:
        narrow = lambda a: (a.view(np.uint32) >> 16).astype(np.uint16)  # noqa: E731
        wide = lambda a: (a.astype(np.uint32) << 16).view(np.float32)  # noqa: E731
    names = ("weights", "biases", "inputs")
    halves = replace(problem, **{name: narrow(getattr(problem, name)) for name in names})
    floats = replace(problem, **{name: wide(getattr(halves, name)) for name in names})
    exact = floats.solve()
    np.testing.assert_equal(halves.solve(grad_dtype="float32"), exact)
    for rounded, full in zip(halves.solve()[1][1:], exact[1][1:], strict=True):
        assert rounded.dtype == halves.weights.dtype
        np.testing.assert_allclose(wide(rounded), full, rtol=2.0**-8, atol=1e-7)


@pytest.mark.parametrize("strategy", ["div", "mod"])
@pytest.mark.parametrize("groups", [dict(batch=12, groups=12), dict(batch=18, groups=2)])
def test_sharded_tables_are_the_same_table(groups, strategy):
    problem = Case(**groups, dim=6, sampled=20, num_true=2).problem()
    cut = (lambda t: np.array_split(t, 3)) if strategy == "div" else (lambda t: [t[i::3] for i in range(3)])
    sharded = replace(problem, weights=cut(problem.weights), biases=cut(problem.biases))
    np.testing.assert_equal(sharded.solve(partition_strategy=strategy), problem.solve())


@pytest.mark.parametrize("groups", [dict(batch=12, groups=12), dict(batch=18, groups=2)])
def test_rows_of_a_table_may_stand_apart_and_in_reverse(groups):
    problem = Case(**groups, dim=7, sampled=20).problem()
    wide = np.full((2 * len(problem.weights), 11), np.nan, np.float32)
    wide[::2, 2:9] = problem.weights[::-1]
    table = wide[::2, 2:9][::-1]
    assert_matches_twin(problem.solve(weights=table, biases=problem.biases[::-1].copy()[::-1]), problem)


@pytest.mark.parametrize("groups", [dict(batch=12, groups=12), dict(batch=18, groups=2)])
@pytest.mark.parametrize("loss", ["nce", "softmax"])
def test_a_nan_example_spoils_only_what_it_touches(loss, groups):
    problem = Case(loss=loss, **groups, dim=37, sampled=10, num_true=2).problem()
    broken = problem.inputs.copy()
    broken[2, 3] = np.nan
    (_, results), (_, clean) = problem.solve(inputs=broken), problem.solve()
    others = np.arange(problem.batch) != 2
    assert np.isnan(results.loss[2]) and np.isnan(results.inputs[2]).all()
    np.testing.assert_array_equal(results.loss[others], clean.loss[others])
    np.testing.assert_array_equal(results.inputs[others], clean.inputs[others])


@pytest.mark.parametrize("dim", [5, 37])
@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_an_infinite_weight_gives_what_the_formulas_give(value, dim):
    """Columns that are computed twice, or masked, multiply nothing by 0."""
    problem = Case(batch=6, groups=6, dim=dim, sampled=10, dtype="float64").problem()
    problem.weights[problem.sampled_values[0][0, 0], dim - 1 if dim == 37 else 2] = value  # this test's own
    loss, truth = problem.solve()[1].loss, problem.truth()[1].loss
    np.testing.assert_array_equal(np.isnan(loss), np.isnan(truth))
    np.testing.assert_array_equal(np.where(np.isinf(loss), loss, 0), np.where(np.isinf(truth), truth, 0))
    problem.weights[problem.sampled_values[0][0, 0], 0] = value
    loss, truth = problem.solve()[1].loss, problem.truth()[1].loss
    np.testing.assert_array_equal(np.isnan(loss), np.isnan(truth))


@pytest.mark.parametrize("groups", [dict(batch=6, groups=6), dict(batch=16, groups=2)])
@pytest.mark.parametrize("factor", [np.inf, np.nan])
def test_removed_hits_stay_out_of_gradients_with_a_broken_factor(factor, groups):
    problem = Case(**groups, dim=5, sampled=10, remove_hits=True).problem()
    problem.labels[:, 0] = np.repeat(problem.sampled_values[0][:, 0], problem.batch // groups["groups"])
    factors = np.where(np.arange(problem.batch) == 0, factor, 1.0)
    problem = replace(problem, options={**problem.options, "grad_loss": factors.astype(np.float32)})
    for result, expected in zip(problem.solve()[1], problem.truth()[1], strict=True):
        np.testing.assert_array_equal(np.isnan(result), np.isnan(expected))


def test_padded_rows_repeat_the_last_id_with_zeros():
    problem = Case(batch=9, groups=9, dim=5, num_true=2).problem()
    (ids, exact), (padded_ids, padded) = problem.solve(), problem.solve(pad_rows=True)
    rows = problem.labels.size + problem.sampled_values[0].size
    np.testing.assert_array_equal(padded_ids, np.concatenate([ids, np.full(rows - len(ids), ids[-1])]))
    np.testing.assert_array_equal(padded.weights[: len(ids)], exact.weights)
    assert not padded.weights[len(ids) :].any() and not padded.biases[len(ids) :].any()


def test_a_count_that_all_examples_of_its_group_exclude_is_not_read():
    problem = Case(batch=6, groups=3, sampled=25, distinct=True).problem()
    ids, true_count, sampled_count = problem.sampled_values
    broken = np.array(sampled_count)
    broken[1, 4] = np.nan
    unwanted = Ragged(np.full(2, ids[1, 4]), np.array([0, 0, 0, 1, 2, 2, 2]))
    values = problem.solve(exclude=unwanted, sampled_values=(ids, true_count, broken))
    np.testing.assert_equal(values, problem.solve(exclude=unwanted))
    with pytest.raises(ValueError, match=r"sampled_expected_count\[1, 4\] = nan"):
        problem.solve(sampled_values=(ids, true_count, broken))


PROBLEM = Case(batch=6, groups=3, sampled=7).problem()


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"sampled_values": (np.zeros((4, 7), int), None, None)}, ValueError, ["num_groups = 4", "divisor", "B = 6"]),
        ({"sampled_values": (np.zeros((0, 7), int), None, None)}, ValueError, ["num_groups = 0", "at least 1"]),
        ({"num_sampled": 5}, ValueError, ["sampled_candidates has shape [3, 7]", "[G, num_sampled]"]),
        (
            {"sampled_values": (np.zeros((3, 7), int), 0.5, np.ones((2, 7)))},
            ValueError,
            ["sampled_expected_count", "[2, 7]", "[3, 7]"],
        ),
        ({"sampled_values": (np.zeros((3, 1, 7), int), None, None)}, ValueError, ["[3, 1, 7]", "[S], or [G, S]"]),
        (
            {"sampled_values": (np.full((3, 7), [[0], [99], [0]]), None, None)},
            ValueError,
            ["sampled_candidates[1, 0] = 99", "num_classes = 10"],
        ),
        (
            {"sampled_values": (np.zeros((3, 7), int), 0.5, np.full((3, 7), [[1], [1], [0]]))},
            ValueError,
            ["sampled_expected_count[2, 0] = 0"],
        ),
    ],
)
@pytest.mark.parametrize("name", ["nce", "softmax"])
def test_losses_refuse(name, change, error, words):
    with pytest.raises(error) as raised:
        replace(PROBLEM, loss=LOSSES[name]).solve(**change)
    assert all(word in str(raised.value) for word in words), str(raised.value)


def test_counts_may_be_one_for_all_groups_or_for_each():
    ids, true_count, sampled_count = PROBLEM.sampled_values
    for counts in (0.5, sampled_count[0], sampled_count[:, :1]):
        given = replace(PROBLEM, sampled_values=(ids, true_count, counts))
        dense = replace(PROBLEM, sampled_values=(ids, true_count, np.broadcast_to(counts, ids.shape).copy()))
        np.testing.assert_equal(given.solve(), dense.solve())


def test_several_axes_of_examples_are_one_batch():
    problem = Case(loss="negative_sampling", batch=12, groups=4, dim=5, sampled=9).problem()
    flat = problem.solve()
    axes = {"labels": problem.labels.reshape(4, 3), "inputs": problem.inputs.reshape(4, 3, 5)}
    loss, grads = fastnce.negative_sampling_loss_and_grad(**{**problem.arguments(), **axes})
    assert loss.shape == (4, 3)
    np.testing.assert_equal(Results.of(loss.ravel(), grads._replace(inputs=grads.inputs.reshape(12, 5))), flat[1])
