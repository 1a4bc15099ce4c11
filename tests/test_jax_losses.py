"""fastnce.jax's losses, each row of the table: the NumPy entry's numbers and the twin's, under transformations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import fastnce
from cases import Case, assert_matches_twin
from jax_arrays import assert_same, enable_x64, jax, jnp
from losses import EVERY_LOSS
from tolerances import Results

EVERY = pytest.mark.parametrize("loss", [loss.name for loss in EVERY_LOSS])
ARRAYS = (
    *("weights", "biases", "labels", "inputs", "sampled_values", "sampled_candidates", "label_weights", "exclude"),
    "grad_loss",
)
WEIGHTS = ("positive_weight", "negative_weight")
OPTIONS = [
    {},
    {"remove_hits": True},
    {"no_biases": True},
    {"no_counts": True},
    {"padded": True, "num_true": 3},
    {"padded": True, "remove_hits": True, "no_biases": True, "num_true": 2},
    {"batch": 65, "sampled": 129, "dim": 33, "remove_hits": True},
    {"batch": 0},
    {"dim": 0, "no_biases": True},
    {"sampled": 0},
]


def split(problem, **changes):
    """Arguments as (JAX arrays, what is static)."""
    arguments = {**problem.arguments(), **changes}
    traced = {
        name: value
        for name, value in arguments.items()
        if name in ARRAYS or (name in WEIGHTS and isinstance(value, np.ndarray))
    }
    return jax.tree.map(jnp.asarray, traced), {name: value for name, value in arguments.items() if name not in traced}


def functions(problem):
    """The loss, and the loss with rows of gradients."""
    stem = problem.loss.function.removesuffix("_loss")
    return getattr(fastnce.jax, problem.loss.function), getattr(fastnce.jax, stem + "_value_and_rows")


def padded_rows(problem, **changes):
    """The NumPy entry's results, with as many rows as there are entries."""
    loss, grads = problem.loss.library()(**{**problem.arguments(), **changes}, pad_rows=True)
    results = loss, grads.inputs, *grads.rows
    return [array for array in results if array is not None]


@EVERY
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_values_and_rows_are_the_numpy_entrys(loss, options):
    problem = Case(loss=loss, **options).problem()
    factors = {"grad_loss": np.linspace(-1, 1, problem.batch).astype(np.float32)}
    arrays, static = split(problem, **factors)
    _, with_rows = functions(problem)
    ours = jax.jit(lambda arrays: with_rows(**arrays, **static))(arrays)
    assert (ours[2].biases is None) == (problem.biases is None)
    assert_same(ours, padded_rows(problem, **factors))


@EVERY
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("options", [{"num_true": 2, "remove_hits": True}, {"no_biases": True}], ids=str)
def test_dense_gradients_match_the_twin_for_any_upstream_factors(loss, dtype, options):
    problem = Case(loss=loss, dtype=dtype, **options).problem()
    factors = np.random.default_rng(1).normal(size=len(problem.labels)).astype(dtype)
    function, _ = functions(problem)
    names = [name for name in ("inputs", "weights", "biases") if getattr(problem, name) is not None]
    with enable_x64(dtype == "float64"):
        arrays, static = split(problem)

        def losses(*tables):
            return function(**{**arrays, **dict(zip(names, tables, strict=True))}, **static)

        loss, pull = jax.vjp(losses, *(arrays[name] for name in names))
        inputs, weights, *biases = map(np.asarray, pull(jnp.asarray(factors)))
    problem = replace(problem, options={**problem.options, "grad_loss": factors})
    ids, _ = problem.truth()
    results = Results(np.asarray(loss), inputs, weights[ids], biases[0][ids] if biases else None)
    assert_matches_twin((ids, results), problem)


@EVERY
@pytest.mark.parametrize("flat", [False, True], ids=["", "flat"])
def test_leading_axes_are_more_examples(loss, flat):
    problem = Case(batch=6, num_true=1 if flat else 2, loss=loss, padded=True).problem()
    _, with_rows = functions(problem)
    arrays, static = split(problem, grad_loss=np.linspace(-1, 1, 6).astype(np.float32))
    expected = with_rows(**arrays, **static)
    several = dict(arrays)
    for name in ("labels", "inputs", "grad_loss", *WEIGHTS):
        if name in several:
            several[name] = several[name].reshape(2, 3, *several[name].shape[1:])
    if flat:
        several["labels"] = several["labels"][..., 0]
    if arrays.get("sampled_values") is not None:
        ids, true_count, sampled_count = arrays["sampled_values"]
        true_count = true_count.reshape(2, 3, *true_count.shape[1:])
        several["sampled_values"] = (ids, true_count[..., 0] if flat else true_count, sampled_count)
    losses, inputs, rows = with_rows(**several, **static)
    assert losses.shape == (2, 3)
    assert inputs.shape == (2, 3, 8)
    assert_same((losses.reshape(6), inputs.reshape(6, 8), rows), map(np.asarray, jax.tree.leaves(expected)))


@EVERY
@pytest.mark.parametrize(("axes", "dim"), [((2, 3), 0), ((0, 3), 8), ((3, 0), 0), ((2, 0, 3), 8)], ids=str)
def test_leading_axes_may_be_of_no_columns_or_no_examples(axes, dim, loss):
    problem = Case(batch=int(np.prod(axes)), dim=dim, num_true=2, loss=loss, no_counts=True).problem()
    arrays, static = split(problem)
    _, with_rows = functions(problem)
    expected = with_rows(**arrays, **static)
    for name in ("labels", "inputs", *WEIGHTS):
        if name in arrays:
            arrays[name] = arrays[name].reshape(*axes, *arrays[name].shape[1:])
    losses, inputs, rows = with_rows(**arrays, **static)
    assert losses.shape == axes
    assert inputs.shape == (*axes, dim)
    assert_same(
        (losses.reshape(-1), inputs.reshape(-1 if dim else len(expected[0]), dim), rows),
        map(np.asarray, jax.tree.leaves(expected)),
    )


@EVERY
def test_vmap_is_a_loop(loss):
    problem = Case(loss=loss).problem()
    function, _ = functions(problem)
    arrays, static = split(problem)
    inputs = jnp.stack([arrays.pop("inputs"), jnp.ones((5, 8))])
    both = jax.vmap(lambda inputs: function(**arrays, inputs=inputs, **static))(inputs)
    for one, losses in zip(inputs, both, strict=True):
        np.testing.assert_array_equal(losses, function(**arrays, inputs=one, **static))


@pytest.mark.parametrize("function", ["nce_loss", "sampled_softmax_loss"])
@pytest.mark.parametrize("options", [{}, {"padded": True, "num_true": 2}], ids=str)
def test_a_key_draws_what_its_words_draw(function, options):
    names = {"nce_loss": "nce", "sampled_softmax_loss": "softmax"}
    problem = Case(loss=names[function], **options).problem()
    arrays, static = split(problem, sampled_values=None)
    del arrays["sampled_values"]
    ours = getattr(fastnce.jax, function)(**arrays, **static, key=jax.random.key(7))
    expected = getattr(fastnce, function)(**{**problem.arguments(), "sampled_values": None}, seed=(0, 7))
    np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_weight_may_be_traced_and_gets_no_gradient(name):
    problem = Case(loss="negative_sampling").problem()
    arrays, static = split(problem)
    expected = fastnce.negative_sampling_loss(**{**problem.arguments(), name: 2.5})

    def loss(weight):
        return fastnce.jax.negative_sampling_loss(**arrays, **{**static, name: weight})

    np.testing.assert_array_equal(jax.jit(loss)(2.5), expected)
    np.testing.assert_array_equal(loss(2.5), expected)
    assert jax.grad(lambda weight: loss(weight).sum())(2.5) == 0


@pytest.mark.parametrize("known", [True, False], ids=["known", "traced"])
def test_expected_counts_at_padding_are_not_read(known):
    problem = Case(loss="nce", padded=True, num_true=2).problem()
    arrays, static = split(problem)
    ids, true_count, sampled_count = problem.sampled_values
    assert np.isnan(true_count).any()
    labels = arrays.pop("labels") if not known else problem.labels
    arrays.pop("labels", None)
    arrays["sampled_values"] = (ids, true_count, sampled_count)
    loss = fastnce.jax.nce_loss(**arrays, labels=labels, **static)
    np.testing.assert_array_equal(loss, fastnce.nce_loss(**problem.arguments()))


def test_updates_of_rows_without_biases_leave_none():
    problem = Case(loss="negative_sampling", no_biases=True).problem()
    arrays, static = split(problem)
    _, _, rows = fastnce.jax.negative_sampling_value_and_rows(**arrays, **static)
    weights, biases = fastnce.jax.sgd_rows(arrays["weights"], None, rows, 0.5)
    assert biases is None
    np.testing.assert_array_equal(weights, arrays["weights"].at[rows.ids].add(-0.5 * rows.weights))
    sums = (jnp.zeros_like(weights), None)
    weights, biases, (squares, none) = fastnce.jax.adagrad_rows(arrays["weights"], None, sums, rows, 0.5)
    assert biases is none is None
    np.testing.assert_allclose(squares, jnp.zeros_like(weights).at[rows.ids].add(rows.weights**2), rtol=1e-6)
    with pytest.raises(TypeError, match=r"^rows\.biases is None: expected an array$"):
        fastnce.jax.sgd_rows(weights, jnp.zeros(len(weights)), rows, 0.5)
