"""fastnce.jax with true classes as lists, weights of labels, excluded classes and groups of candidates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import fastnce
from cases import EVERYTHING, Case, assert_matches_twin, targets_and_negatives
from fastnce import Ragged
from jax_arrays import RUN_TIME_ERRORS, assert_same, enable_x64, jax, jnp
from losses import EVERY_LOSS
from test_jax_losses import functions, padded_rows, split
from tolerances import Results

EVERY = pytest.mark.parametrize("loss", [loss.name for loss in EVERY_LOSS])
LISTS = Ragged(np.array([0, 1, 2]), np.array([0, 1, 1, 3, 3]))
COUNTS = (np.arange(6), None, None)
PROBLEM = Case(batch=4, sampled=6, **EVERYTHING).problem()
KEY = jax.random.key(7)


def with_room(problem, room=4):
    """The same problem, but what follows the last list: values that are no classes, and numbers that are none."""
    lists, exclude = problem.labels, problem.options["exclude"]
    ids, true_count, sampled_count = problem.sampled_values
    if true_count is not None:
        true_count = np.append(true_count, np.full(room, np.nan, np.float32))
    weights = np.append(problem.options["label_weights"], np.full(room, np.nan, np.float32))
    others = np.array([problem.num_classes, -1, -(2**31), 0][:room], np.int64)
    return replace(
        problem,
        labels=Ragged(np.append(lists.values, others), lists.offsets),
        sampled_values=(ids, true_count, sampled_count),
        options={
            **problem.options,
            "label_weights": weights,
            "exclude": Ragged(np.append(exclude.values, others), exclude.offsets),
        },
    )


@pytest.mark.parametrize("case", targets_and_negatives(8, dim=5), ids=str)
def test_values_and_rows_are_the_numpy_entrys(case):
    problem = case.problem()
    factors = {"grad_loss": np.linspace(-1, 1, 8).astype(np.float32)}
    arrays, static = split(problem, **factors)
    _, with_rows = functions(problem)
    ours = jax.jit(lambda arrays: with_rows(**arrays, **static))(arrays)
    assert_same(ours, padded_rows(problem, **factors))


@EVERY
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dense_gradients_match_the_twin_for_any_upstream_factors(loss, dtype):
    problem = Case(batch=8, loss=loss, dtype=dtype, **EVERYTHING).problem()
    factors = np.random.default_rng(1).normal(size=8).astype(dtype)
    function, _ = functions(problem)
    with enable_x64(dtype == "float64"):
        arrays, static = split(problem)

        def losses(inputs, weights, biases):
            return function(**{**arrays, "inputs": inputs, "weights": weights, "biases": biases}, **static)

        loss, pull = jax.vjp(losses, *(arrays[name] for name in ("inputs", "weights", "biases")))
        inputs, weights, biases = map(np.asarray, pull(jnp.asarray(factors)))
    problem = replace(problem, options={**problem.options, "grad_loss": factors})
    ids, _ = problem.truth()
    assert_matches_twin((ids, Results(np.asarray(loss), inputs, weights[ids], biases[ids])), problem)


@EVERY
@pytest.mark.parametrize("x64", [False, True], ids=["x32", "x64"])
@pytest.mark.parametrize("traced", [False, True], ids=["known", "traced"])
def test_what_follows_the_last_list_is_ignored(loss, traced, x64):
    problem = Case(batch=8, loss=loss, **EVERYTHING).problem()
    _, with_rows = functions(problem)
    with enable_x64(x64):
        expected_arrays, static = split(problem)
        expected = with_rows(**expected_arrays, **static)
        arrays, static = split(with_room(problem))
        if traced:
            losses, inputs, rows = jax.jit(lambda arrays: with_rows(**arrays, **static))(arrays)
        else:
            losses, inputs, rows = with_rows(**with_room(problem).arguments())
    used = len(expected[2].ids)
    assert len(rows.ids) == used + 4
    assert_same((losses, inputs), map(np.asarray, expected[:2]))
    assert_same(jax.tree.map(lambda array: array[:used], rows), map(np.asarray, expected[2]))
    assert (rows.ids[used:] == rows.ids[used - 1]).all()
    assert not rows.weights[used:].any() and not rows.biases[used:].any()


@pytest.mark.parametrize("known", [True, False], ids=["known", "traced"])
def test_an_empty_batch_may_have_room_for_labels(known):
    problem = with_room(Case(batch=0, **EVERYTHING).problem())
    arrays, static = (problem.arguments(), {}) if known else split(problem)
    loss, inputs, rows = fastnce.jax.nce_value_and_rows(**arrays, **static)
    assert loss.shape == (0,) and inputs.shape == (0, 8)
    assert not rows.weights.any()


def test_other_lists_of_the_same_sizes_do_not_recompile():
    traces = []

    def grown(lists, size):
        return lists._replace(values=np.pad(lists.values, (0, size - len(lists.values)), constant_values=-1))

    @jax.jit
    def loss(arrays):
        traces.append(None)
        return fastnce.jax.nce_loss(**arrays, **static)

    for seed in range(3):
        problem = Case(batch=8, num_true=3, ragged=True, excluded=True, no_counts=True, seed=seed).problem()
        lists = {"labels": grown(problem.labels, 30), "exclude": grown(problem.options["exclude"], 60)}
        arrays, static = split(problem, **lists)
        np.testing.assert_array_equal(loss(arrays), fastnce.nce_loss(**problem.arguments()))
    assert len(traces) == 1


@EVERY
def test_vmap_is_a_loop(loss):
    problems = [with_room(Case(batch=4, loss=loss, seed=seed, **EVERYTHING).problem()) for seed in (1, 1)]
    problems[1] = replace(problems[1], labels=problems[1].labels._replace(offsets=problems[1].labels.offsets // 2))
    function, _ = functions(problems[0])
    arrays, static = split(problems[0])
    offsets = jnp.stack([jnp.asarray(problem.labels.offsets) for problem in problems])

    def losses(offsets):
        return function(**{**arrays, "labels": arrays["labels"]._replace(offsets=offsets)}, **static)

    both = jax.vmap(losses)(offsets)
    for own, result in zip(offsets, both, strict=True):
        np.testing.assert_array_equal(result, losses(own))


@EVERY
def test_leading_axes_are_more_examples(loss):
    problem = Case(batch=6, loss=loss, **EVERYTHING).problem()
    function, _ = functions(problem)
    arrays, static = split(problem)
    expected = function(**arrays, **static)
    for name in ("inputs", "positive_weight", "negative_weight"):
        if name in arrays:
            arrays[name] = arrays[name].reshape(2, 3, *arrays[name].shape[1:])
    np.testing.assert_array_equal(function(**arrays, **static), expected.reshape(2, 3))


@pytest.mark.parametrize(
    ("name", "shape"), [("matrix", (5, 3)), ("column", (5, 1)), ("number", ()), ("axes", (1, 5, 3))]
)
def test_weights_of_labels_are_the_numpy_entrys(name, shape):
    problem = Case(num_true=3).problem()
    arrays, static = split(problem)
    weights = np.random.default_rng(1).uniform(0.2, 2.0, shape).astype(np.float32)
    if name == "axes":
        arrays["inputs"], arrays["labels"] = arrays["inputs"][None], arrays["labels"][None]
        ids, true_count, sampled_count = arrays["sampled_values"]
        arrays["sampled_values"] = ids, true_count[None], sampled_count
    ours = fastnce.jax.nce_loss(**arrays, **static, label_weights=jnp.asarray(weights))
    flat = weights[0] if name == "axes" else weights
    np.testing.assert_array_equal(ours.reshape(5), fastnce.nce_loss(**problem.arguments(), label_weights=flat))


def test_no_gradient_flows_to_weights_of_labels():
    arrays, static = split(PROBLEM)
    weights = arrays.pop("label_weights")
    slope = jax.grad(lambda weights: fastnce.jax.nce_loss(**arrays, **static, label_weights=weights).sum())(weights)
    assert not slope.any()


SOURCES = {
    "key": {"sampled_values": None},
    "log_uniform": {"sampled_values": fastnce.LogUniformSampler(9, 6, num_true=2)},
    "uniform": {"sampled_values": fastnce.UniformSampler(9, 6, num_true=2)},
}


@pytest.mark.parametrize("room", [0, 4])
@pytest.mark.parametrize("source", SOURCES)
def test_samples_are_drawn_for_lists(source, room):
    problem = with_room(PROBLEM, room)
    drawn = fastnce.jax.nce_loss(**{**problem.arguments(), **SOURCES[source]}, key=KEY)
    kind = fastnce.UniformSampler if source == "uniform" else fastnce.LogUniformSampler
    labels = np.where(PROBLEM.labels.values == PROBLEM.options["padding"], 0, PROBLEM.labels.values)
    samples = kind(9, 6, seed=(0, 7))(labels)
    samples = samples._replace(true_expected_count=samples.true_expected_count[:, 0])
    expected = fastnce.nce_loss(**{**PROBLEM.arguments(), "sampled_values": samples})
    np.testing.assert_array_equal(drawn, expected)


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)], ids=["n", "n-1"])
def test_a_callable_takes_the_labels_of_lists_in_one_column(shape):
    asked = []

    def sampler(labels):
        asked.append(labels)
        return np.arange(6), jnp.where(labels > 3, 0.5, 0.25).reshape(shape), np.full(6, 0.5, "f")

    problem = with_room(PROBLEM)
    drawn = fastnce.jax.nce_loss(**{**problem.arguments(), "sampled_values": sampler})
    assert [labels.shape for labels in asked] == [(len(problem.labels.values), 1)]
    assert ((asked[0] >= 0) & (asked[0] < 9)).all()
    values = np.where(PROBLEM.labels.values == PROBLEM.options["padding"], 0, PROBLEM.labels.values)
    samples = (np.arange(6), np.where(values > 3, 0.5, 0.25).astype("f"), np.full(6, 0.5, "f"))
    expected = fastnce.nce_loss(**{**PROBLEM.arguments(), "sampled_values": samples})
    np.testing.assert_array_equal(drawn, expected)


def test_a_sampler_that_learns_takes_no_lists():
    sampler = fastnce.LearnedUnigramSampler(9, 6)
    with pytest.raises(ValueError, match=r"^labels is a Ragged: expected an array beside a sampler that learns"):
        fastnce.jax.nce_loss(**{**PROBLEM.arguments(), "sampled_values": sampler, "padding": None})


REFUSED = {
    "offsets-count": ({"labels": LISTS._replace(offsets=np.array([0, 3]))}, r"labels.offsets has shape \[2\].* \[5\]"),
    "offsets-dtype": ({"labels": LISTS._replace(offsets=np.zeros(5))}, "labels.offsets has dtype float64"),
    "values-rank": ({"labels": LISTS._replace(values=np.zeros((3, 1), int))}, r"labels.values has shape \[3, 1\]"),
    "values-dtype": ({"labels": LISTS._replace(values=np.zeros(3))}, "labels.values has dtype float64"),
    "weights": ({"labels": LISTS, "label_weights": np.ones(2, "f")}, r"label_weights has shape \[2\].*\[n\] = \[3\]"),
    "exclude-kind": ({"exclude": [[1], [2], [3], [4]]}, "exclude is a list: expected a fastnce.Ragged"),
    "exclude-count": (
        {"exclude": LISTS._replace(offsets=np.array([0, 3]))},
        r"exclude.offsets has shape \[2\].* \[5\]",
    ),
}


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("traced", [False, True], ids=["known", "traced"])
def test_shapes_and_kinds_are_refused_when_traced(change, message, traced):
    problem = Case(batch=4, num_true=2, sampled=6, dtype="float64").problem()
    with enable_x64(True):
        if traced and not isinstance(change.get("exclude"), list):
            change = jax.tree.map(jnp.asarray, change)
        with pytest.raises((ValueError, TypeError), match=message):
            fastnce.jax.nce_loss(**{**problem.arguments(), "sampled_values": COUNTS, **change})


FOUND_OUT = {
    "fall": (
        "labels",
        LISTS._replace(offsets=np.array([0, 2, 1, 3, 3])),
        r"labels.offsets\[2\] = 1: expected at least",
    ),
    "begin": ("labels", LISTS._replace(offsets=np.array([1, 1, 1, 3, 3])), r"labels.offsets\[0\] = 1: expected 0"),
    "beyond": (
        "labels",
        LISTS._replace(offsets=np.array([0, 1, 1, 3, 9])),
        r"labels.offsets\[4\] = 9: expected 0 to 3",
    ),
    "negative": (
        "labels",
        LISTS._replace(offsets=np.array([0, 1, 1, 3, -1])),
        r"labels.offsets\[4\] = -1: expected 0 to 3",
    ),
    "class": ("labels", LISTS._replace(values=np.array([0, 9, 2])), r"labels.values\[1\] = 9 is outside"),
    "wide": (
        "labels",
        LISTS._replace(values=np.array([0, 2**32, 2])),
        r"labels.values\[1\] = (-1|4294967296) is outside",
    ),
    "exclude-fall": (
        "exclude",
        LISTS._replace(offsets=np.array([0, 2, 1, 3, 3])),
        r"exclude.offsets\[2\] = 1: expected",
    ),
    "exclude-beyond": ("exclude", LISTS._replace(offsets=np.array([0, 1, 1, 3, 4])), r"exclude.offsets\[4\] = 4"),
    "exclude-class": ("exclude", LISTS._replace(values=np.array([0, -1, 2])), r"exclude.values\[1\] = -1 is outside"),
}


@pytest.mark.parametrize(("name", "lists", "message"), FOUND_OUT.values(), ids=FOUND_OUT)
@pytest.mark.parametrize("x64", [False, True], ids=["x32", "x64"])
def test_what_lists_hold_is_refused_when_the_call_runs(name, lists, message, x64):
    problem = Case(batch=4, num_true=2, sampled=6).problem()
    arguments = {**problem.arguments(), "sampled_values": COUNTS, name: lists}
    with enable_x64(x64), pytest.raises(RUN_TIME_ERRORS, match=message):
        jax.block_until_ready(fastnce.jax.nce_loss(**arguments))


@pytest.mark.parametrize("x64", [False, True], ids=["x32", "x64"])
@pytest.mark.parametrize("padding", [-1, 2**31, 2**63 - 1, -(2**63)])
def test_padding_of_lists_is_any_integer(padding, x64):
    values = np.array([0, padding, 2])
    arguments = {**Case(batch=4, sampled=6).problem().arguments(), "sampled_values": COUNTS, "padding": padding}
    arguments["labels"] = LISTS._replace(values=values)
    with enable_x64(x64):
        ours = fastnce.jax.nce_loss(**arguments)
    np.testing.assert_array_equal(ours, fastnce.nce_loss(**arguments))


@pytest.mark.parametrize("groups", [2, 8])
def test_a_callable_may_draw_for_groups(groups):
    problem = Case(batch=8, groups=groups).problem()
    arrays, static = split(problem)
    samples = arrays.pop("sampled_values")
    ours = fastnce.jax.nce_loss(**arrays, **static, sampled_values=lambda labels: samples)
    np.testing.assert_array_equal(ours, fastnce.nce_loss(**problem.arguments()))
