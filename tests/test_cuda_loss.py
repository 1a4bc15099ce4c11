"""The sampled losses and their gradients on a CUDA device against the float64 twin, as on the CPU."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import cuda_arrays
import fastnce
from cases import EMPTY, Case, assert_matches_twin, sizes_id
from halves import HALVES, half_cases
from losses import EVERY_LOSS

pytestmark = pytest.mark.cuda

ROLES = ("weights", "biases", "inputs")

RAGGED = [
    Case(batch=1, dim=1, sampled=1),
    Case(batch=31, dim=3, sampled=33, num_true=2, remove_hits=True),
    Case(batch=64, dim=64, sampled=64, distinct=True),
    Case(batch=63, dim=65, sampled=32, num_true=3),
    Case(batch=127, dim=65, sampled=129, num_true=2, remove_hits=True),
    Case(batch=128, dim=130, sampled=128, distinct=True, remove_hits=True),
    Case(batch=129, dim=64, sampled=127, num_true=4),
    Case(batch=130, dim=3, sampled=300, remove_hits=True, distinct=True),
    Case(batch=300, dim=64, sampled=31, num_true=2),
    Case(batch=5, dim=130, sampled=257, num_true=3, remove_hits=True),
    Case(batch=257, dim=1, sampled=65, num_true=70),
]
"""Around the edges of tiles of 32, 64 and 128."""

LARGE = [
    Case(batch=2049, dim=513, sampled=1025, num_true=2, remove_hits=True),
    Case(batch=515, dim=1026, sampled=4099, distinct=True),
    Case(batch=4100, dim=33, sampled=2050, num_true=5, remove_hits=True),
]
"""Several tiles, splits and chunks: too much for a device in software."""

MIDDLE = Case(batch=70, dim=65, sampled=130, num_true=2, remove_hits=True)

OTHERS = [loss.name for loss in EVERY_LOSS if loss.name != "nce"]

one_of_each_family = pytest.mark.parametrize("loss", ["nce", "softmax"])


def assert_equal_results(ours, expected):
    for got, wanted in zip((ours[0], *ours[1]), (expected[0], *expected[1]), strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("case", RAGGED, ids=str)
@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_every_element_is_accurate_at_every_shape(case, precision, cuda_array):
    problem = case.problem()
    assert_matches_twin(cuda_array.solve(problem, precision=precision), problem, precision)


@pytest.mark.parametrize("case", [Case(batch=1, dim=1, sampled=1), MIDDLE, RAGGED[6], RAGGED[9]], ids=str)
@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
@pytest.mark.parametrize("loss", OTHERS)
def test_every_loss_is_accurate(loss, precision, case, cuda_array):
    problem = replace(case, loss=loss).problem()
    assert_matches_twin(cuda_array.solve(problem, precision=precision), problem, precision)


@pytest.mark.parametrize("flag", ["remove_hits", "no_biases", "no_counts", "padded"])
@pytest.mark.parametrize("num_true", [1, 5])
@pytest.mark.parametrize("loss", [loss.name for loss in EVERY_LOSS])
def test_every_option_holds_for_every_loss(loss, num_true, flag, cuda_array):
    problem = Case(batch=35, dim=9, sampled=60, num_true=num_true, loss=loss, **{flag: True}).problem()
    assert_matches_twin(cuda_array.solve(problem), problem)
    fastnce.cuda.check()  # padding is no fault


@pytest.mark.parametrize("loss", [loss.name for loss in EVERY_LOSS])
def test_padding_and_hits_together(loss, cuda_array):
    problem = Case(batch=70, dim=9, sampled=60, num_true=3, padded=True, remove_hits=True, loss=loss).problem()
    assert_matches_twin(cuda_array.solve(problem), problem)


@pytest.mark.skipif(cuda_arrays.EMULATED, reason="too large for an emulated device")
@pytest.mark.parametrize("case", LARGE, ids=str)
@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
@one_of_each_family
def test_large_problems_are_accurate(loss, case, precision, cuda_array):
    problem = replace(case, loss=loss).problem()
    assert_matches_twin(cuda_array.solve(problem, precision=precision), problem, precision)


@pytest.mark.parametrize("sizes", EMPTY, ids=sizes_id)
@pytest.mark.parametrize("remove_hits", [False, True], ids=["all", "no-hits"])
@one_of_each_family
def test_empty_problems_are_accurate(loss, sizes, remove_hits, cuda_array):
    problem = Case(**sizes, remove_hits=remove_hits, loss=loss).problem()
    assert_matches_twin(cuda_array.solve(problem), problem)


@one_of_each_family
def test_the_same_call_gives_the_same_bits(loss, cuda_array):
    problem = replace(MIDDLE, loss=loss).problem()
    assert_equal_results(cuda_array.solve(problem), cuda_array.solve(problem))


@pytest.mark.parametrize("case", [Case(), MIDDLE], ids=str)
@one_of_each_family
def test_the_loss_alone_is_the_loss_beside_gradients(loss, case, cuda_array):
    problem = replace(case, loss=loss).problem()
    value = problem.loss.library(suffix="")(**cuda_array.put_all(problem.arguments()))
    assert cuda_array.is_own(value)
    np.testing.assert_array_equal(cuda_array.get(value), cuda_array.solve(problem)[1].loss)


def narrowed(problem, **dtypes):
    """The problem with some arrays in other dtypes, and the same numbers in float32."""
    arrays = {name: getattr(problem, name).astype(dtype) for name, dtype in dtypes.items()}
    wide = {name: array.astype(np.float32) for name, array in arrays.items()}
    return replace(problem, **arrays), replace(problem, **wide)


@pytest.mark.parametrize("dim", [1, 3, 64, 65])
@pytest.mark.parametrize("dtype", half_cases(HALVES))
@one_of_each_family
def test_halves_are_read_exactly(loss, dtype, dim, cuda_array):
    problem = Case(batch=33, dim=dim, sampled=70, num_true=2, remove_hits=True, loss=loss).problem()
    half, wide = narrowed(problem, **dict.fromkeys(ROLES, HALVES[dtype]))
    assert_matches_twin(cuda_array.solve(half, grad_dtype="float32"), wide)


@pytest.mark.parametrize("dtype", HALVES)
def test_halves_have_exact_logits_at_medium_precision(dtype, cuda_array):
    """The loss and the bias gradients, which depend on nothing else, are as good as at "high"."""
    half, wide = narrowed(MIDDLE.problem(), **dict.fromkeys(ROLES, HALVES[dtype]))
    results = cuda_array.solve(half, grad_dtype="float32", precision="medium")
    assert_matches_twin(results, wide, "medium", logits_precision="high")


@pytest.mark.parametrize(
    "roles",
    half_cases(
        [("float16", "float32", "bfloat16"), ("bfloat16", "float16", "float32"), ("float32", "bfloat16", "float16")]
    ),
    ids="-".join,
)
def test_mixtures_are_computed_in_float32_and_rounded_once(roles, cuda_array):
    dtypes = dict(zip(ROLES, ({"float32": np.dtype(np.float32), **HALVES}[role] for role in roles), strict=True))
    half, wide = narrowed(MIDDLE.problem(), **dtypes)
    ids, exact = cuda_array.solve(half, grad_dtype="float32")
    assert_matches_twin((ids, exact), wide)
    rounded = cuda_array.solve(half)[1]
    np.testing.assert_array_equal(rounded.loss, exact.loss)
    for name, dtype in dtypes.items():
        # Not every framework has a bfloat16 of its own: it may come as bits.
        got = getattr(rounded, name)
        assert got.dtype.itemsize == dtype.itemsize
        np.testing.assert_array_equal(got.view(dtype), getattr(exact, name).astype(dtype))


@pytest.mark.parametrize("strategy", ["div", "mod"])
@pytest.mark.parametrize("count", [1, 3, 5])
@one_of_each_family
def test_shards_are_one_table(loss, strategy, count, cuda_array):
    problem = Case(batch=6, dim=7, sampled=10, num_true=2, loss=loss).problem()

    def shards_of(table):
        return np.array_split(table, count) if strategy == "div" else [table[i::count] for i in range(count)]

    changes = {name: shards_of(getattr(problem, name)) for name in ("weights", "biases")}
    assert_matches_twin(cuda_array.solve(problem, partition_strategy=strategy, **changes), problem)


def test_more_rows_than_classes_are_fine(cuda_array):
    problem = Case(batch=6, sampled=10).problem()
    tall = np.vstack([problem.weights, np.full((5, 8), np.nan, np.float32)])
    assert_matches_twin(cuda_array.solve(problem, weights=tall), problem)


@one_of_each_family
def test_grad_loss_scales_gradients_and_not_the_loss(loss, cuda_array):
    problem = replace(MIDDLE, loss=loss).problem()
    factors = np.random.default_rng(1).standard_normal(70).astype(np.float32)
    scaled = replace(problem, options={**problem.options, "grad_loss": factors})
    ids, results = cuda_array.solve(scaled)
    assert_matches_twin((ids, results), scaled)
    np.testing.assert_array_equal(results.loss, cuda_array.solve(problem)[1].loss)


@one_of_each_family
def test_accidental_hits_contribute_exactly_nothing(loss, cuda_array):
    problem = replace(Case(batch=3, dim=5, loss=loss).problem(), labels=np.full((3, 1), 4))
    true_count = problem.sampled_values[1]
    hits = replace(problem, sampled_values=(np.array([4, 4, 4]), true_count, np.ones(3, np.float32)))
    none = replace(problem, sampled_values=(np.zeros(0, np.int64), true_count, np.ones(0, np.float32)))
    results = [cuda_array.solve(each, remove_accidental_hits=True) for each in (hits, none)]
    assert_equal_results(*results)


@pytest.mark.parametrize("count", [0.0, np.inf, np.nan])
@one_of_each_family
def test_the_count_of_a_removed_hit_does_not_matter(loss, count, cuda_array):
    problem = Case(batch=3, dim=5, sampled=40, remove_hits=True, loss=loss).problem()
    hit = problem.sampled_values[0][0]
    problem = replace(problem, labels=np.full((3, 1), hit))
    before = cuda_array.solve(problem)
    problem.sampled_values[2][problem.sampled_values[0] == hit] = count  # the arrays are this test's own
    assert_equal_results(cuda_array.solve(problem), before)


@pytest.mark.parametrize("scale", [-1e4, 1e4])
@one_of_each_family
def test_huge_logits_stay_finite_and_accurate(loss, scale, cuda_array):
    problem = Case(batch=6, dim=1, sampled=10, num_true=2, remove_hits=True, loss=loss).problem()
    problem = replace(problem, inputs=np.full((6, 1), scale, np.float32), weights=np.abs(problem.weights) + 1)
    ids, results = cuda_array.solve(problem)
    assert all(np.isfinite(array).all() for array in results)
    assert_matches_twin((ids, results), problem)


@one_of_each_family
def test_a_nan_example_spoils_only_what_it_touches(loss, cuda_array):
    problem = Case(batch=6, dim=5, sampled=10, num_true=2, loss=loss).problem()
    broken = problem.inputs.copy()
    broken[2, 3] = np.nan
    (ids, results), (_, clean) = cuda_array.solve(problem, inputs=broken), cuda_array.solve(problem)
    others = np.arange(6) != 2
    assert np.isnan(results.loss[2]) and np.isnan(results.inputs[2]).all()
    np.testing.assert_array_equal(results.loss[others], clean.loss[others])
    np.testing.assert_array_equal(results.inputs[others], clean.inputs[others])
    touched = np.isin(ids, np.concatenate([problem.labels[2], problem.sampled_values[0]]))
    np.testing.assert_array_equal(np.isnan(results.biases), touched)


@one_of_each_family
def test_without_candidates_the_cpus_are_drawn(loss, cuda_array):
    problem = Case(batch=6, dim=9, sampled=40, num_true=2, remove_hits=True, loss=loss).problem()
    values = fastnce.log_uniform_candidate_sampler(problem.labels, 2, 12, True, problem.num_classes, seed=(5, 6))
    given = replace(problem, sampled_values=values)
    drawn = cuda_array.solve(problem, sampled_values=None, num_sampled=12, seed=(5, 6))
    assert_matches_twin(drawn, given)


@pytest.mark.parametrize("case", [Case(batch=9, dim=5, num_true=2), MIDDLE], ids=str)
def test_padded_rows_repeat_the_last_id_with_zeros(case, cuda_array):
    problem = case.problem()
    ids, exact = cuda_array.solve(problem)
    padded_ids, padded = cuda_array.solve(problem, pad_rows=True)
    used, rows = len(ids), problem.labels.size + len(problem.sampled_values[0])
    assert used < rows
    np.testing.assert_array_equal(padded_ids, np.concatenate([ids, np.full(rows - used, ids[-1])]))
    for name in ("weights", "biases"):
        got, expected = getattr(padded, name), getattr(exact, name)
        np.testing.assert_array_equal(got[:used], expected)
        np.testing.assert_array_equal(got[used:], np.zeros_like(got[used:]))
        summed = np.zeros((problem.num_classes, *got.shape[1:]), np.float32)
        np.add.at(summed, padded_ids, got)
        np.testing.assert_array_equal(summed[ids], expected)


@pytest.mark.parametrize("bad", [-1, 10, 2**40, -(2**63)])
@one_of_each_family
def test_a_label_out_of_range_gives_nan_and_is_reported(loss, bad, cuda_array):
    problem = Case(batch=6, dim=5, sampled=7, num_true=2, loss=loss).problem()
    clean = cuda_array.solve(problem)[1]
    labels = problem.labels.copy()
    labels[3, 1] = bad
    _, results = cuda_array.solve(problem, labels=labels)
    np.testing.assert_array_equal(np.isnan(results.loss), np.arange(6) == 3)
    others = np.arange(6) != 3
    np.testing.assert_array_equal(results.loss[others], clean.loss[others])
    np.testing.assert_array_equal(results.inputs[others], clean.inputs[others])
    with pytest.raises(ValueError, match=rf"labels\[3, 1\] = {bad} is outside \[0, num_classes = 10\)"):
        fastnce.cuda.check()
    fastnce.cuda.check()  # reported once


@pytest.mark.parametrize("bad", [-1, 10])
@one_of_each_family
def test_a_candidate_out_of_range_spoils_everything_and_is_reported(loss, bad, cuda_array):
    problem = Case(batch=6, dim=5, sampled=7, loss=loss).problem()
    ids = problem.sampled_values[0].copy()
    ids[2] = bad
    _, results = cuda_array.solve(problem, sampled_values=(ids, *problem.sampled_values[1:]))
    assert np.isnan(results.loss).all() and np.isnan(results.inputs).all()
    with pytest.raises(ValueError, match=rf"sampled_candidates\[2\] = {bad} is outside"):
        fastnce.cuda.check()


@pytest.mark.parametrize("bad", [0.0, -1.0, np.inf, -np.inf, np.nan])
@one_of_each_family
def test_an_unusable_true_count_gives_nan_in_its_example_alone(loss, bad, cuda_array):
    """On the CPU it is an error; here reading it would synchronise the device."""
    problem = Case(batch=6, dim=5, sampled=7, num_true=2, loss=loss).problem()
    clean_ids, clean = cuda_array.solve(problem)
    ids, true_count, sampled_count = problem.sampled_values
    true_count = true_count.copy()
    true_count[3, 1] = bad
    row_ids, results = cuda_array.solve(problem, sampled_values=(ids, true_count, sampled_count))
    np.testing.assert_array_equal(np.isnan(results.loss), np.arange(6) == 3)
    others = np.arange(6) != 3
    np.testing.assert_array_equal(results.loss[others], clean.loss[others])
    np.testing.assert_array_equal(results.inputs[others], clean.inputs[others])
    np.testing.assert_array_equal(row_ids, clean_ids)
    assert np.isfinite(results.weights).all() and np.isfinite(results.biases).all()


@pytest.mark.parametrize("bad", [0.0, -1.0, np.inf, -np.inf, np.nan])
@one_of_each_family
def test_an_unusable_sampled_count_spoils_the_examples_that_use_it(loss, bad, cuda_array):
    problem = Case(batch=6, dim=5, sampled=7, remove_hits=True, loss=loss).problem()
    ids, _, sampled_count = problem.sampled_values
    sampled_count[ids == ids[2]] = bad  # the arrays are this test's own
    problem.labels[:] = (ids[2] + 1) % problem.num_classes
    problem.labels[4] = ids[2]
    results = cuda_array.solve(problem)[1]
    np.testing.assert_array_equal(np.isnan(results.loss), np.arange(6) != 4)
    np.testing.assert_array_equal(np.isnan(results.inputs).all(axis=1), np.arange(6) != 4)


def test_every_call_is_checked_on_request(cuda_array, monkeypatch):
    monkeypatch.setenv("FASTNCE_CHECK", "1")
    problem = Case(batch=6, dim=5, sampled=7).problem()
    assert_matches_twin(cuda_array.solve(problem), problem)
    labels = np.full((6, 1), 10)
    with pytest.raises(ValueError, match=r"labels\[\d, 0\] = 10 is outside"):
        cuda_array.solve(problem, labels=labels)
    with pytest.raises(ValueError, match=r"labels\[\d, 0\] = 10 is outside"):
        fastnce.nce_loss(**cuda_array.put_all({**problem.arguments(), "labels": labels}))
