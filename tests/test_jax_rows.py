"""sgd_rows and adagrad_rows: dense updates' numbers, in the memory of donated tables."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import fastnce
from cases import Case
from jax_arrays import RUN_TIME_ERRORS, enable_x64, jax, jnp, ml_dtypes, split
from tolerances import UNITS

RATE = 0.3
DTYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float64": np.float64}
LEARNERS = ("sgd", "adagrad")


def tables_and_rows(dtype="float32", case=None):
    """Tables of more classes than a batch touches, and rows with padding."""
    problem = (case or Case(batch=9, dim=5, sampled=11, num_true=2)).problem()
    arrays, static = split(problem.arguments())
    weights, biases = (
        jnp.concatenate([arrays[name], arrays[name][::-1] + 1]).astype(dtype) for name in ("weights", "biases")
    )
    arrays = {**arrays, "weights": weights, "biases": biases, "inputs": arrays["inputs"].astype(dtype)}
    _, _, rows = fastnce.jax.nce_value_and_rows(**arrays, **static)
    return weights, biases, rows


def dense(rows, tables):
    """The rows' gradients as tables in float64, padding added up."""
    grads = [np.zeros(table.shape) for table in tables]
    for grad, part in zip(grads, (rows.weights, rows.biases), strict=True):
        np.add.at(grad, np.asarray(rows.ids), np.asarray(part, np.float64))
    return grads


def adagrad(table, total, grad, epsilon=1e-10):
    """torch.optim.Adagrad on a dense gradient; what has none stays as it is."""
    total = total + grad**2
    return table - RATE * grad / (np.sqrt(total) + epsilon), total


def assert_rounded(actual, true, dtype):
    """`true` computed in float32 or more, and rounded to `dtype`."""
    assert actual.dtype == dtype
    computed = UNITS["float64"] * 2.0**-52 if dtype == np.float64 else UNITS["float32"] * 2.0**-23
    bound = (computed + float(ml_dtypes.finfo(dtype).eps) / 2) * (np.abs(true) + 1)
    assert (np.abs(np.asarray(actual, np.float64) - true) <= bound).all()


@pytest.fixture(params=DTYPES)
def dtype(request):
    with enable_x64(request.param == "float64"):
        yield np.dtype(DTYPES[request.param])


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit])
def test_sgd_is_that_of_the_dense_gradient(dtype, transform):
    weights, biases, rows = tables_and_rows(dtype)
    assert (np.diff(rows.ids) == 0).any()  # padding
    before = [np.asarray(table, np.float64) for table in (weights, biases)]
    after = transform(fastnce.jax.sgd_rows)(weights, biases, rows, RATE)
    for actual, old, grad in zip(after, before, dense(rows, before), strict=True):
        assert_rounded(actual, old - RATE * grad, dtype)
        untouched = np.setdiff1d(np.arange(len(old)), rows.ids)
        np.testing.assert_array_equal(np.asarray(actual, np.float64)[untouched], old[untouched])


@pytest.mark.parametrize("sums", ["float32", "own"])
@pytest.mark.parametrize("transform", [lambda f: f, jax.jit])
def test_adagrad_is_pytorchs_on_the_dense_gradient(dtype, transform, sums):
    weights, biases, rows = tables_and_rows(dtype)
    kept = np.dtype(np.float32) if sums == "float32" else dtype
    accumulators = jnp.zeros(weights.shape, kept), jnp.zeros(biases.shape, kept)
    for _ in range(3):
        old = [np.asarray(table, np.float64) for table in (weights, biases)]
        totals = [np.asarray(total, np.float64) for total in accumulators]
        step = transform(fastnce.jax.adagrad_rows)
        weights, biases, accumulators = step(weights, biases, accumulators, rows, RATE)
        after = zip((weights, biases), accumulators, old, totals, dense(rows, old), strict=True)
        for table, total, old_table, old_total, grad in after:
            expected, expected_total = adagrad(old_table, old_total, grad)
            assert_rounded(table, expected, dtype)
            assert_rounded(total, expected_total, kept)


def test_epsilon_is_added_to_the_root():
    weights, biases, rows = tables_and_rows()
    sums = jnp.zeros_like(weights), jnp.zeros_like(biases)
    ours, *_ = fastnce.jax.adagrad_rows(weights, biases, sums, rows, RATE, epsilon=0.5)
    grad, _ = dense(rows, (weights, biases))
    expected, _ = adagrad(np.asarray(weights, np.float64), np.zeros(weights.shape), grad, 0.5)
    assert_rounded(ours, expected, np.dtype(np.float32))


@pytest.mark.parametrize("learner", LEARNERS)
def test_donated_tables_are_updated_where_they_are(dtype, learner):
    weights, biases, rows = tables_and_rows(dtype)
    tables = [weights, biases, jnp.zeros_like(weights), jnp.zeros_like(biases)][: 2 if learner == "sgd" else 4]

    @partial(jax.jit, donate_argnums=0)
    def step(tables):
        if learner == "sgd":
            return list(fastnce.jax.sgd_rows(*tables, rows, RATE))
        weights, biases, sums = fastnce.jax.adagrad_rows(*tables[:2], tables[2:], rows, RATE)
        return [weights, biases, *sums]

    step.lower(tables)
    places = [table.unsafe_buffer_pointer() for table in tables]
    for _ in range(2):
        given, tables = tables, step(tables)
        assert all(table.is_deleted() for table in given)
        assert [table.unsafe_buffer_pointer() for table in tables] == places


@pytest.mark.parametrize("learner", LEARNERS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_training_step_copies_no_table(dtype, learner):
    # XLA's own account of temporary memory: a copy or a converted table would be in it.
    problem = Case(batch=4, dim=64, sampled=8).problem()
    arrays, static = split(problem.arguments())
    del arrays["weights"], arrays["biases"]
    weights, biases = jnp.zeros((50_000, 64), dtype), jnp.zeros(50_000, dtype)
    sums = jnp.zeros_like(weights), jnp.zeros_like(biases)

    @partial(jax.jit, donate_argnums=(0, 1, 2))
    def step(weights, biases, sums, arrays):
        loss, _, rows = fastnce.jax.nce_value_and_rows(weights, biases, **arrays, **static)
        if learner == "sgd":
            return *fastnce.jax.sgd_rows(weights, biases, rows, RATE), sums, loss
        return *fastnce.jax.adagrad_rows(weights, biases, sums, rows, RATE), loss

    memory = step.lower(weights, biases, sums, arrays).compile().memory_analysis()
    assert memory.temp_size_in_bytes < weights.nbytes / 10
    assert memory.alias_size_in_bytes >= 2 * (weights.nbytes + biases.nbytes)


def test_tables_that_are_not_donated_stay_as_they_are():
    weights, biases, rows = tables_and_rows()
    before = np.array(weights), np.array(biases)
    jax.block_until_ready(jax.jit(fastnce.jax.sgd_rows)(weights, biases, rows, RATE))
    np.testing.assert_array_equal(weights, before[0])
    np.testing.assert_array_equal(biases, before[1])


def test_a_learning_rate_may_be_traced():
    weights, biases, rows = tables_and_rows()
    step = jax.jit(lambda *arguments: fastnce.jax.sgd_rows(*arguments))
    for rate in (0.1, 0.2):
        expected = fastnce.jax.sgd_rows(weights, biases, rows, rate)
        np.testing.assert_allclose(step(weights, biases, rows, rate)[0], expected[0], rtol=1e-6)
    assert step._cache_size() == 1


def test_vmap_is_a_loop():
    weights, biases, rows = tables_and_rows()
    stacked = jax.tree.map(lambda array: jnp.stack([array, array + 0]), (weights, biases, rows))
    together = jax.vmap(partial(fastnce.jax.sgd_rows, learning_rate=RATE))(*stacked)
    alone = fastnce.jax.sgd_rows(weights, biases, rows, RATE)
    for ours, expected in zip(together, alone, strict=True):
        np.testing.assert_allclose(ours, np.stack([expected, expected]), rtol=1e-6)


def test_without_rows_nothing_changes():
    weights, biases, rows = tables_and_rows(case=Case(batch=0, sampled=0, dim=5))
    assert rows.ids.shape == (0,)
    after = fastnce.jax.sgd_rows(weights, biases, rows, RATE)
    np.testing.assert_array_equal(after[0], weights)


@pytest.mark.parametrize("wrong", [2**32 + 3, -(2**40)])
def test_ids_beyond_jax_s_integers_are_refused(wrong):
    weights, gradients = np.zeros((28, 5), np.float32), np.ones((2, 5), np.float32)
    rows = fastnce.RowGrads(np.array([1, wrong]), gradients, None)
    with pytest.raises(ValueError, match=rf"rows\.ids holds {wrong}: expected rows of weights, in \[0, 28\)"):
        fastnce.jax.sgd_rows(weights, None, rows, 0.1)


def test_ids_that_are_no_rows_are_refused():
    weights, biases, rows = tables_and_rows()
    wrong = rows._replace(ids=rows.ids.at[-1].set(len(weights)))
    with pytest.raises(RUN_TIME_ERRORS, match=r"rows.ids\[28\] = 28 is outside \[0, 28\)"):
        jax.block_until_ready(jax.jit(fastnce.jax.sgd_rows)(weights, biases, wrong, RATE))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w, b, r: (w[:, :4], b, r), r"weights has shape \[28, 4\].* \[29, 5\]"),
        (lambda w, b, r: (w, b[:, None], r), r"biases has shape \[28, 1\].* \[29\]"),
        (lambda w, b, r: (w, b, r._replace(ids=r.ids[:3])), r"weights .* \[29, 5\] for ids of shape \[3\]"),
    ],
)
def test_rows_that_do_not_fit_are_refused(change, message):
    weights, biases, rows = change(*tables_and_rows())
    with pytest.raises(ValueError, match=message):
        fastnce.jax.sgd_rows(weights, biases, rows, RATE)
    with pytest.raises(ValueError, match=message):
        fastnce.jax.adagrad_rows(weights, biases, (weights, biases), rows, RATE)


def test_accumulators_that_do_not_fit_are_refused():
    weights, biases, rows = tables_and_rows()
    with pytest.raises(ValueError, match=r"accumulators\[1\] has shape \[28, 5\]"):
        fastnce.jax.adagrad_rows(weights, biases, (weights, weights), rows, RATE)
