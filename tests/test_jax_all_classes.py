"""What fastnce.jax computes over all classes: the NumPy functions' numbers and the twins', under transformations."""

from __future__ import annotations

import re

import numpy as np
import pytest

import fastnce
from fastnce import Ragged
from halves import BFLOAT16
from jax_arrays import RUN_TIME_ERRORS, enable_x64, jax, jnp
from test_all_classes import OPTIONS, TWIN, VALUE, operands, small_integers

OURS = {"softmax": fastnce.jax.softmax_loss, "sigmoid": fastnce.jax.sigmoid_loss}
EVERY = pytest.mark.parametrize("family", OURS)
X64 = pytest.mark.parametrize("x64", [False, True], ids=["x32", "x64"])
B, V, D = 12, 90, 5
TABLES = ("weights", "biases", "inputs")
EXCLUDE = Ragged(np.arange(2 * B) * 7 % V, np.arange(0, 2 * B + 1, 2))


def problem(dtype="float32", num_true=2):
    weights, biases, labels, inputs = operands(B, V, D, num_true, dtype)
    return dict(weights=weights, biases=biases, labels=labels, inputs=inputs)


def split(arguments):
    """Arguments as (JAX arrays, what is static)."""
    traced = {name: value for name, value in arguments.items() if isinstance(value, np.ndarray | Ragged)}
    return jax.tree.map(jnp.asarray, traced), {name: value for name, value in arguments.items() if name not in traced}


def with_room(lists):
    """The same lists in arrays that are longer: what follows are no classes."""
    return lists._replace(values=np.append(lists.values, [-1, V, 2**31 - 1]))


def loss_of(family, arguments):
    """The losses as a function of the tables and inputs that are given, which come with it."""
    arrays, static = split(arguments)
    names = [name for name in TABLES if name in arrays]
    return (lambda *given: OURS[family](**{**arrays, **dict(zip(names, given, strict=True))}, **static)), [
        arrays[name] for name in names
    ]


# ---- losses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", OPTIONS)
@EVERY
def test_losses_and_gradients_are_the_twins(family, option):
    weights, biases, labels, inputs = operands(B, 1500, D, 3, "float64")
    arguments = dict(weights=weights, biases=biases, labels=labels, inputs=inputs)
    arguments |= OPTIONS[option](np.random.default_rng(1), labels)
    true_loss, true = TWIN[family](**arguments)
    upstream = arguments.pop("grad_loss", np.ones(B))
    expected = [grads for grads in (true.weights, true.biases, true.inputs) if grads is not None]
    with enable_x64(True):
        losses, tables = loss_of(family, arguments)
        loss, pull = jax.vjp(jax.jit(losses), *tables)
        found = pull(jnp.asarray(upstream))
    for ours, truth in zip((loss, *found), (true_loss, *expected), strict=True):
        assert ours.dtype == np.float64
        np.testing.assert_allclose(ours, truth, rtol=1e-11, atol=1e-12)


NUMPY = {"softmax": fastnce.softmax_loss_and_grad, "sigmoid": fastnce.sigmoid_loss_and_grad}


@pytest.mark.parametrize("dtypes", ["fff", "eee", "EEE", "Efe"])
@pytest.mark.parametrize("compiled", [False, True])
@EVERY
def test_losses_and_gradients_are_the_numpy_functions_to_the_bit(family, compiled, dtypes):
    arguments = problem()
    kinds = {"f": np.float32, "e": np.float16, "E": BFLOAT16}
    for name, kind in zip(TABLES, dtypes, strict=True):
        arguments[name] = arguments[name].astype(kinds[kind])
    upstream = np.linspace(-1, 1, B).astype(np.float32)
    loss, grads = NUMPY[family](**arguments, grad_loss=upstream)
    losses, tables = loss_of(family, arguments)
    both = jax.value_and_grad(lambda *given: losses(*given) @ upstream, argnums=(0, 1, 2))
    _, found = (jax.jit(both) if compiled else both)(*tables)
    np.testing.assert_array_equal(losses(*tables), loss)
    for ours, true in zip(found, (grads.weights, grads.biases, grads.inputs), strict=True):
        assert ours.dtype == true.dtype
        np.testing.assert_array_equal(ours, true)


@pytest.mark.parametrize("known", [True, False], ids=["known", "traced"])
@EVERY
def test_what_follows_the_last_list_is_ignored(family, known):
    lists = Ragged(np.array([3, 4, 3, 8]), np.array([0, 0, 3, *[3] * (B - 3), 4]))
    weights = np.array([0.5, 2, 1, 3], np.float32)
    arguments = {**problem(), "labels": lists, "exclude": EXCLUDE}
    expected = VALUE[family](**arguments, label_weights=weights)
    arguments |= {"labels": with_room(lists), "exclude": with_room(EXCLUDE)}
    arguments["label_weights"] = np.append(weights, [np.nan] * 3).astype(np.float32)
    if known:
        loss = OURS[family](**arguments)
    else:
        losses, tables = loss_of(family, arguments)
        loss = jax.jit(losses)(*tables)
    np.testing.assert_array_equal(loss, expected)


@EVERY
def test_several_axes_of_examples_come_back(family):
    arguments = {**problem(), "padding": 7}
    expected = VALUE[family](**arguments).reshape(3, 4)
    arguments |= {"labels": arguments["labels"].reshape(3, 4, 2), "inputs": arguments["inputs"].reshape(3, 4, D)}
    losses, tables = loss_of(family, arguments)
    loss, pull = jax.vjp(losses, *tables)
    np.testing.assert_array_equal(loss, expected)
    assert [grad.shape for grad in pull(jnp.ones((3, 4)))] == [(V, D), (V,), (3, 4, D)]
    arguments["labels"] = arguments["labels"][..., 0]
    np.testing.assert_array_equal(OURS[family](**arguments), VALUE[family](**arguments))


@EVERY
def test_no_examples_have_gradients_of_zero(family):
    for arguments in (
        {**problem(), "labels": np.zeros(0, int), "inputs": np.zeros((0, D), np.float32)},
        {**problem(), "labels": np.full(B, -1), "padding": -1},
    ):
        losses, tables = loss_of(family, arguments)
        loss, pull = jax.vjp(losses, *tables)
        for array in (loss, *pull(jnp.ones_like(loss))):
            assert not array.any()


@EVERY
def test_vmap_is_a_loop(family):
    losses, (weights, biases, inputs) = loss_of(family, problem())
    several = jnp.stack([inputs, 2 * inputs])
    for function in (losses, jax.grad(lambda *given: losses(*given).sum(), argnums=(0, 2))):
        both = jax.jit(jax.vmap(function, in_axes=(None, None, 0)))(weights, biases, several)
        for i, own in enumerate(several):
            alone = function(weights, biases, own)
            jax.tree.map(lambda batched, one, i=i: np.testing.assert_array_equal(batched[i], one), both, alone)


@EVERY
def test_scan_trains_like_a_loop(family):
    losses, tables = loss_of(family, problem())

    def step(tables, rate):
        loss, grads = jax.value_and_grad(lambda given: losses(*given).mean())(tables)
        return jax.tree.map(lambda table, grad: table - rate * grad, tables, grads), loss

    scanned, found = jax.jit(lambda tables: jax.lax.scan(step, tables, jnp.array([0.5, 0.25, 0.5])))(tables)
    expected = []
    for rate in (0.5, 0.25, 0.5):
        tables, loss = step(tables, rate)
        expected.append(loss)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    for ours, true in zip(scanned, tables, strict=True):
        np.testing.assert_allclose(ours, true, rtol=1e-4, atol=1e-6)
    assert expected[2] < expected[0]


def results_of_handlers(function, *arguments):
    """The sizes of the results of each call of a handler: loss, gradients of inputs, row ids, weights and biases."""
    calls = re.findall(r"custom_call @fastnce_sampled_loss.*-> \((.*)\)", jax.jit(function).lower(*arguments).as_text())
    return [[np.prod([*map(int, re.findall(r"(\d+)x", shape))]) for shape in call.split(", ")] for call in calls]


def test_only_gradients_that_are_asked_for_are_computed():
    losses, tables = loss_of("softmax", problem())
    assert results_of_handlers(losses, *tables) == [[B, 0, 0, 0, 0]]
    sizes = {0: [0, 0, 0, V * D, 0], 1: [0, 0, 0, 0, V], 2: [0, B * D, 0, 0, 0]}
    for argument, of_gradients in sizes.items():
        gradient = jax.grad(lambda *given: losses(*given).sum(), argnums=argument)
        assert results_of_handlers(gradient, *tables)[-1] == of_gradients


def test_second_derivatives_are_errors():
    losses, tables = loss_of("softmax", problem())
    with pytest.raises(ValueError, match="cannot be differentiated"):
        jax.grad(lambda *given: jax.grad(lambda *again: losses(*again).sum())(*given).sum())(*tables)


# ---- evaluation ----------------------------------------------------------------------------------------------


def evaluation(dtype="float32"):
    weights, biases, inputs = small_integers(B, V, D, dtype)
    labels = np.random.default_rng(1).integers(V, size=(B, 3))
    return dict(weights=weights, biases=biases, inputs=inputs), labels


EVALUATIONS = {
    "plain": lambda arguments, y: (arguments, y),
    "no_biases": lambda arguments, y: ({**arguments, "biases": None}, y),
    "flat": lambda arguments, y: (arguments, y[:, 0]),
    "exclude": lambda arguments, y: ({**arguments, "exclude": EXCLUDE}, y),
    "padding": lambda arguments, y: ({**arguments, "padding": int(y[0, 0])}, y),
    "axes": lambda arguments, y: ({**arguments, "inputs": arguments["inputs"].reshape(3, 4, D)}, y.reshape(3, 4, 3)),
    "lists": lambda arguments, y: (arguments, Ragged(y[:, 0], np.array([0, 0, *range(2, B), B]))),
}


@pytest.mark.parametrize("kind", EVALUATIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_evaluation_is_the_numpy_functions(kind, dtype):
    arguments, labels = EVALUATIONS[kind](*evaluation(dtype))
    ranked = {**arguments, "labels": labels}
    arguments.pop("padding", None)
    with enable_x64(dtype == "float64"):
        arrays, static = split(arguments)
        scores, ids = jax.jit(lambda arrays: fastnce.jax.top_k(**arrays, **static, k=8))(arrays)
        true_scores, true_ids = fastnce.top_k(**arguments, k=8)
        arrays, static = split(ranked)
        ranks = jax.jit(lambda arrays: fastnce.jax.rank_of_labels(**arrays, **static))(arrays)
    assert scores.dtype == ranks.dtype == dtype
    assert ids.dtype == (np.int64 if dtype == "float64" else np.int32)
    np.testing.assert_array_equal(scores, true_scores)
    np.testing.assert_array_equal(ids, true_ids)
    np.testing.assert_array_equal(ranks, fastnce.rank_of_labels(**ranked))


@X64
@pytest.mark.parametrize("k", [0, 1, V, V + 3])
def test_fewer_classes_than_k_leave_places_empty(k, x64):
    arguments, _ = evaluation()
    with enable_x64(x64):
        scores, ids = fastnce.jax.top_k(**arguments, k=k, exclude=with_room(EXCLUDE))
    true_scores, true_ids = fastnce.top_k(**arguments, k=k, exclude=EXCLUDE)
    np.testing.assert_array_equal(scores, true_scores)
    np.testing.assert_array_equal(ids, true_ids)


def test_what_follows_the_last_list_has_no_rank():
    arguments, labels = evaluation()
    lists = Ragged(labels[:, 0], np.arange(B + 1))
    ranks = fastnce.jax.rank_of_labels(**arguments, labels=with_room(lists), exclude=with_room(EXCLUDE))
    expected = fastnce.rank_of_labels(**arguments, labels=lists, exclude=EXCLUDE)
    np.testing.assert_array_equal(ranks, np.append(expected, [np.nan] * 3))


def test_evaluation_in_halves_is_the_numpy_functions():
    rounded = {name: (7 * array / 9).astype(np.float16) for name, array in evaluation()[0].items()}
    labels = np.arange(B)
    for ours, true in zip(fastnce.jax.top_k(**rounded, k=4), fastnce.top_k(**rounded, k=4), strict=True):
        np.testing.assert_array_equal(ours, true)
    ranks = fastnce.jax.rank_of_labels(**rounded, labels=labels)
    np.testing.assert_array_equal(ranks, fastnce.rank_of_labels(**rounded, labels=labels))


def evaluated(arguments, labels):
    return (*fastnce.jax.top_k(**arguments, k=3), fastnce.jax.rank_of_labels(**arguments, labels=labels))


@pytest.mark.parametrize("loop", ["vmap", "scan"])
def test_evaluation_in_a_loop_is_that_of_each(loop):
    arguments, labels = evaluation()
    several = jnp.stack([arguments.pop("inputs"), jnp.ones((B, D))])

    def own(inputs):
        return evaluated({**arguments, "inputs": inputs}, labels)

    def scan(inputs):
        return jax.lax.scan(lambda _, each: (None, own(each)), None, inputs)[1]

    both = jax.jit(scan if loop == "scan" else jax.vmap(own))(several)
    for i, inputs in enumerate(several):
        for ours, true in zip(both, own(inputs), strict=True):
            np.testing.assert_array_equal(ours[i], true)


def test_scores_and_ranks_are_constants():
    arguments, labels = evaluation()
    arrays = {name: jnp.asarray(array) for name, array in arguments.items()}

    def total(arrays):
        scores, _, ranks = evaluated(arrays, labels)
        return scores.sum() + ranks.sum()

    assert not any(slope.any() for slope in jax.grad(total)(arrays).values())


# ---- what is refused -----------------------------------------------------------------------------------------

CALLS = {
    "softmax_loss": problem(),
    "sigmoid_loss": problem(),
    "top_k": {name: value for name, value in problem().items() if name != "labels"} | {"k": 3},
    "rank_of_labels": problem(),
}
EVERY_CALL = pytest.mark.parametrize("name", CALLS)
X, W, Y, C = (problem()[name] for name in ("inputs", "weights", "labels", "biases"))
REFUSED = {
    "weights-width": {"weights": W[:, :3]},
    "weights-dtype": {"weights": W.astype(np.float64)},
    "weights-integers": {"weights": W.astype(np.int32)},
    "biases-shape": {"biases": C[:-1]},
    "inputs-rank": {"inputs": X[0, 0]},
    "inputs-dtype": {"inputs": X.astype(np.int32)},
    "labels-batch": {"labels": Y[:-1]},
    "labels-rank": {"labels": Y[..., None, None]},
    "labels-dtype": {"labels": Y.astype(np.float32)},
    "labels-offsets": {"labels": Ragged(Y[:, 0], np.arange(B))},
    "exclude-kind": {"exclude": [[1]] * B},
    "exclude-offsets": {"exclude": EXCLUDE._replace(offsets=np.arange(B))},
    "label-weights": {"label_weights": np.ones(B, np.float32)},
    "padding": {"padding": 1.5},
    "true-target": {"true_target": "all"},
    "precision": {"precision": "low"},
    "k-negative": {"k": -1},
    "k-kind": {"k": 2.5},
}


def cases(changes):
    """Each call with each change of an argument that it has, by ids."""
    parameters = {name: getattr(fastnce, name).__code__.co_varnames for name in CALLS}
    return [
        pytest.param(name, *case, id=f"{name}-{what}")
        for name in CALLS
        for what, case in changes.items()
        if case[0].keys() <= set(parameters[name])
    ]


def refusal(function, arguments):
    with pytest.raises((ValueError, TypeError)) as caught:
        function(**arguments)
    return type(caught.value), str(caught.value)


@pytest.mark.parametrize("traced", [False, True], ids=["known", "traced"])
@pytest.mark.parametrize(("name", "change"), cases({what: (change,) for what, change in REFUSED.items()}))
def test_arguments_are_refused_in_the_numpy_functions_words(name, change, traced):
    with enable_x64(True):
        arguments = {**CALLS[name], **change}
        arrays, static = split(arguments) if traced else ({}, arguments)

        def call(arrays):
            jax.eval_shape(lambda arrays: getattr(fastnce.jax, name)(**arrays, **static), arrays)

        assert refusal(call, {"arrays": arrays}) == refusal(getattr(fastnce, name), arguments)


FOUND_OUT = {
    "label": ({"labels": Y + V}, r"labels\[0, 0\] = \d+ is outside \[0, num_classes = 90\)"),
    "listed-label": ({"labels": Ragged(Y[:, 0] + V, np.arange(B + 1))}, r"labels.values\[0\] = \d+ is outside"),
    "lists": ({"labels": Ragged(Y[:, 0], np.arange(B + 1) + 1)}, r"labels.offsets\[12\] = 13: expected 0 to 12"),
    "excluded-lists": (
        {"exclude": EXCLUDE._replace(offsets=np.ones(B + 1, int))},
        r"exclude.offsets\[0\] = 1: expected 0",
    ),
    "excluded-class": (
        {"exclude": EXCLUDE._replace(values=EXCLUDE.values - 9)},
        r"exclude.values\[0\] = -9 is outside",
    ),
}


@pytest.mark.parametrize(("name", "change", "message"), cases(FOUND_OUT))
def test_what_arrays_hold_is_refused_when_the_call_runs(name, change, message):
    arrays, static = split({**CALLS[name], **change})
    with pytest.raises(RUN_TIME_ERRORS, match=message):
        jax.block_until_ready(jax.jit(lambda arrays: getattr(fastnce.jax, name)(**arrays, **static))(arrays))


@EVERY_CALL
def test_shards_are_refused(name):
    with pytest.raises(TypeError, match=r"^weights is a list: expected one array; the NumPy functions take shards$"):
        getattr(fastnce.jax, name)(**{**CALLS[name], "weights": [W]})


@EVERY_CALL
def test_other_platforms_are_refused_when_lowered(name):
    arrays, static = split(CALLS[name])
    inputs = arrays.pop("inputs")

    def call(inputs):
        return jax.tree.leaves(getattr(fastnce.jax, name)(**arrays, inputs=inputs, **static))[0]

    for function, x in (
        (call, inputs),
        (jax.vmap(call), inputs[None]),
        (jax.value_and_grad(lambda x: call(x).sum()), inputs),
    ):
        with pytest.raises(ValueError, match="the platform is cuda: expected cpu"):
            jax.jit(function).trace(x).lower(lowering_platforms=("cuda",))
