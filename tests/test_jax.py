"""fastnce.jax: the NumPy entry's numbers, under JAX's transformations."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

import fastnce
from cases import EMPTY, LENGTHS, Case, assert_matches_twin, shape_sweep, sizes_id
from jax_arrays import assert_same, enable_x64, expected_rows, jax, jnp, ml_dtypes, split
from tolerances import Results

PROBLEM = Case(batch=6, dim=9, sampled=7, num_true=2, remove_hits=True).problem()
TABLES = ("weights", "biases", "inputs")


@pytest.fixture
def x64():
    with enable_x64(True):
        yield


def upstream(problem):
    """Arbitrary factors, some of them zero and some negative."""
    factors = np.random.default_rng(1).normal(size=len(problem.labels)).astype(problem.inputs.dtype)
    factors[::5] = 0
    return factors


def value_and_rows(arrays, static):
    return jax.jit(lambda arrays: fastnce.jax.nce_value_and_rows(**arrays, **static))(arrays)


def loss_of(static, arrays):
    """The loss as a function of tables and inputs."""
    return lambda *tables: fastnce.jax.nce_loss(**{**arrays, **dict(zip(TABLES, tables, strict=True))}, **static)


def tables_of(arrays):
    return [arrays[name] for name in TABLES]


def drawn(key, **changes):
    """Arguments with a key in place of samples."""
    arrays, static = split({**PROBLEM.arguments(), **changes})
    del arrays["sampled_values"]
    return {**arrays, "key": key}, static


@pytest.mark.parametrize("case", shape_sweep("float32", rotations=1), ids=str)
def test_values_and_rows_are_the_numpy_entrys(case):
    problem = case.problem()
    factors = {"grad_loss": upstream(problem)}
    ours = value_and_rows(*split({**problem.arguments(), **factors}))
    assert_same(ours, expected_rows(problem, **factors))


@pytest.mark.parametrize("sizes", EMPTY, ids=sizes_id)
def test_empty_problems_are_the_numpy_entrys(sizes):
    problem = Case(**sizes).problem()
    arrays, static = split(problem.arguments())
    assert_same(value_and_rows(arrays, static), expected_rows(problem))
    grads = jax.grad(lambda *tables: loss_of(static, arrays)(*tables).sum(), argnums=(0, 1, 2))(*tables_of(arrays))
    assert [grad.shape for grad in grads] == [table.shape for table in tables_of(arrays)]


def test_jit_makes_no_difference():
    arrays, static = split(PROBLEM.arguments())
    eager = fastnce.jax.nce_value_and_rows(**arrays, **static)
    assert_same(eager, map(np.asarray, jax.tree.leaves(value_and_rows(arrays, static))))
    np.testing.assert_array_equal(fastnce.jax.nce_loss(**arrays, **static), eager[0])


def test_numpy_arrays_of_any_layout_are_taken():
    problem = replace(PROBLEM, weights=np.asfortranarray(PROBLEM.weights), inputs=PROBLEM.inputs[:, ::-1])
    compact = replace(problem, weights=PROBLEM.weights, inputs=problem.inputs.copy())
    np.testing.assert_array_equal(fastnce.jax.nce_loss(**problem.arguments()), fastnce.nce_loss(**compact.arguments()))


@pytest.mark.parametrize("wide", [False, True], ids=["float32", "float64"])
@pytest.mark.parametrize("turn", range(0, len(LENGTHS), 3))
def test_dense_gradients_match_the_twin_for_any_upstream_factors(turn, wide):
    case = shape_sweep("float64" if wide else "float32", rotations=2)[len(LENGTHS) + turn]
    problem = case.problem()
    factors = upstream(problem)
    with enable_x64(wide):
        arrays, static = split(problem.arguments())
        loss, pull = jax.vjp(loss_of(static, arrays), *tables_of(arrays))
        weights, biases, inputs = map(np.asarray, pull(jnp.asarray(factors)))
    problem = replace(problem, options={**problem.options, "grad_loss": factors})
    ids, _ = problem.truth()
    assert_matches_twin((ids, Results(np.asarray(loss), inputs, weights[ids], biases[ids])), problem)
    others = np.setdiff1d(np.arange(len(weights)), ids)
    assert not weights[others].any()
    assert not biases[others].any()


@pytest.mark.parametrize("argnums", [(0,), (1,), (2,), (0, 2), (1, 2), (0, 1)])
@pytest.mark.parametrize("transform", [lambda f: f, jax.jit, jax.checkpoint])
def test_gradients_of_some_arguments_are_those_of_all(argnums, transform):
    arrays, static = split(PROBLEM.arguments())
    factors = upstream(PROBLEM)

    def objective(*tables):
        return loss_of(static, arrays)(*tables) @ factors

    everything = jax.grad(objective, argnums=(0, 1, 2))(*tables_of(arrays))
    value, some = jax.value_and_grad(transform(objective), argnums=argnums)(*tables_of(arrays))
    np.testing.assert_allclose(value, objective(*tables_of(arrays)), rtol=1e-6)
    assert_same(some, [np.asarray(everything[i]) for i in argnums])


def test_tables_that_are_not_differentiated_get_no_dense_gradient():
    arrays, static = split(PROBLEM.arguments())
    objective = lambda *tables: loss_of(static, arrays)(*tables).sum()  # noqa: E731
    programs = [str(jax.make_jaxpr(jax.grad(objective, argnums))(*tables_of(arrays))) for argnums in (2, 1, 0)]
    assert ["fastnce_set_rows" in program for program in programs] == [False, True, True]


def test_expected_counts_are_constants():
    arrays, static = split(PROBLEM.arguments())
    ids, *counts = arrays.pop("sampled_values")
    grads = jax.grad(
        lambda *counts: fastnce.jax.nce_loss(**arrays, sampled_values=(ids, *counts), **static).sum(), argnums=(0, 1)
    )(*counts)
    assert not any(grad.any() for grad in grads)


@pytest.mark.parametrize("shape", [(), (6, 1), (6, 2)])
def test_expected_counts_are_broadcast(shape):
    ids, true_count, _ = PROBLEM.sampled_values
    values = (ids, np.resize(true_count, shape), np.float32(0.5))
    arguments = {**PROBLEM.arguments(), "sampled_values": values}
    np.testing.assert_array_equal(fastnce.jax.nce_loss(**arguments), fastnce.nce_loss(**arguments))


def test_expected_counts_per_example_are_no_row():
    problem = Case(batch=6, sampled=7).problem()
    ids, true_count, sampled_count = problem.sampled_values
    arguments = {**problem.arguments(), "sampled_values": (ids, true_count[:, 0], sampled_count)}
    np.testing.assert_array_equal(fastnce.jax.nce_loss(**arguments), fastnce.nce_loss(**problem.arguments()))


@pytest.mark.parametrize(
    ("key", "seed"),
    [
        (lambda: jax.random.key(7), (0, 7)),
        (lambda: jax.random.PRNGKey(7), (0, 7)),
        (lambda: np.array([2**32 - 1, 5], np.uint32), (2**32 - 1, 5)),
        (lambda: np.array([1, 2, 3, 4], np.uint32), (2**32 + 2, 3 * 2**32 + 4)),
        (lambda: jax.random.wrap_key_data(jnp.array([1, 2, 3, 4], jnp.uint32), impl="rbg"), (2**32 + 2, 3 * 2**32 + 4)),
    ],
    ids=["typed", "raw", "words", "four-words", "rbg"],
)
@pytest.mark.parametrize("unique", [True, False])
@pytest.mark.parametrize("range_max", [50, 2**31])
def test_ids_of_a_key_are_those_of_its_words(key, seed, unique, range_max):
    arguments = (PROBLEM.labels, 2, 40, unique, range_max)
    ours = jax.jit(lambda key: fastnce.jax.log_uniform_candidate_sampler(*arguments, key=key))(key())
    assert isinstance(ours, fastnce.SampledValues)
    assert_same(ours, fastnce.log_uniform_candidate_sampler(*arguments, seed=seed))


def test_a_key_of_zeros_is_a_key_like_others():
    arguments, static = drawn(jax.random.key(0))
    assert not jax.random.key_data(arguments["key"]).any()
    first, again = (fastnce.jax.nce_loss(**arguments, **static) for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_losses_with_a_key_are_the_numpy_entrys():
    arguments, static = drawn(jax.random.key(7))
    seeded = {"sampled_values": None, "seed": (0, 7)}
    assert_same(value_and_rows(arguments, static), expected_rows(PROBLEM, **seeded))
    loss = fastnce.jax.nce_loss(**arguments, **static)
    np.testing.assert_array_equal(loss, fastnce.nce_loss(**{**PROBLEM.arguments(), **seeded}))


def test_the_backward_pass_sees_the_samples_of_the_forward_pass():
    arguments, static = drawn(jax.random.key(7))
    grad = jax.grad(lambda x: fastnce.jax.nce_loss(**{**arguments, "inputs": x}, **static).sum())(arguments["inputs"])
    np.testing.assert_array_equal(grad, fastnce.jax.nce_value_and_rows(**arguments, **static)[1])


def test_another_key_compiles_nothing():
    arguments, static = drawn(jax.random.key(0))
    del arguments["key"]
    traces = []

    @jax.jit
    def step(key):
        traces.append(key)
        return fastnce.jax.nce_value_and_rows(**arguments, **static, key=key)

    losses = {float(step(jax.random.key(seed))[0].sum()) for seed in range(5)}
    assert len(losses) == 5
    assert len(traces) == step._cache_size() == 1


def test_vmap_is_a_loop():
    arguments, static = drawn(jax.random.key(7))
    keys = jax.random.split(arguments.pop("key"), 3)
    inputs = jnp.stack([scale * arguments["inputs"] for scale in (1, 2, 3)])
    labels = jnp.stack([(arguments["labels"] + step) % PROBLEM.num_classes for step in (0, 1, 2)])
    del arguments["inputs"], arguments["labels"]

    def one(inputs, labels, key):
        return fastnce.jax.nce_value_and_rows(**arguments, **static, inputs=inputs, labels=labels, key=key)

    def gradient(inputs, labels, key):
        loss = fastnce.jax.nce_loss(**arguments, **static, inputs=inputs, labels=labels, key=key)
        return loss @ upstream(PROBLEM)

    for function in (one, jax.grad(gradient)):
        together = jax.jit(jax.vmap(function))(inputs, labels, keys)
        alone = [function(*each) for each in zip(inputs, labels, keys, strict=True)]
        assert_same(together, [np.stack(leaves) for leaves in zip(*map(jax.tree.leaves, alone), strict=True)])


def test_scan_draws_by_the_key_of_each_step():
    arguments, static = drawn(jax.random.key(7))
    keys = jax.random.split(arguments.pop("key"), 4)
    tables = arguments.pop("weights"), arguments.pop("biases")

    def step(tables, key):
        weights, biases = tables
        options = dict(**arguments, **static, key=key)
        loss, _, rows = fastnce.jax.nce_value_and_rows(weights, biases, **options)
        return fastnce.jax.sgd_rows(weights, biases, rows, 0.1), loss

    scanned = jax.jit(lambda tables, keys: jax.lax.scan(step, tables, keys))(tables, keys)
    losses = []
    for key in keys:
        tables, loss = jax.jit(step)(tables, key)
        losses.append(loss)
    assert_same(scanned, [*map(np.asarray, tables), np.stack(losses)])
    assert len(np.unique(np.stack(losses))) == np.size(losses)


def test_control_flow_and_other_transformations_give_the_same_numbers():
    arrays, static = split(PROBLEM.arguments())
    inputs = arrays.pop("inputs")

    def loss(inputs):
        return fastnce.jax.nce_loss(**arrays, **static, inputs=inputs)

    expected = np.asarray(loss(inputs))
    once = jax.lax.fori_loop(0, 3, lambda i, total: loss(inputs), jnp.zeros(len(inputs)))
    chosen = jax.jit(lambda yes: jax.lax.cond(yes, loss, lambda x: x[:, 0], inputs))(True)
    ahead = jax.jit(loss).lower(inputs).compile()(inputs)
    nested = jax.vmap(jax.vmap(loss))(inputs[None, None])[0, 0]
    assert_same([once, chosen, ahead, nested], [expected] * 4)
    jacobian = jax.jacrev(loss)(inputs)
    gradient = jax.grad(lambda x: loss(x).sum())(inputs)
    np.testing.assert_allclose(jacobian.sum(axis=0), gradient, rtol=1e-6)


@pytest.mark.skipif(not hasattr(jax, "shard_map"), reason="jax.shard_map came with jax 0.6.1")
def test_devices_may_share_a_batch():
    script = """
import os
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
import jax, jax.numpy as jnp, numpy as np, fastnce.jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
key, (w, x) = jax.random.key(1), map(lambda k: jax.random.normal(jax.random.key(k), (8, 4)), (2, 3))
b, y = jnp.zeros(8), jnp.arange(8)[:, None]
mesh = jax.make_mesh((2,), ("d",), axis_types=(AxisType.Auto,))
whole, halves = NamedSharding(mesh, P()), NamedSharding(mesh, P("d"))
args = *jax.device_put((w, b), whole), *jax.device_put((y, x), halves)

def loss(w, b, y, x):
    return fastnce.jax.nce_loss(w, b, y, x, 3, 8, key=key)

def mapped(check_vma):
    specs = {"in_specs": (P(), P(), P("d"), P("d")), "out_specs": P("d")}
    return jax.shard_map(loss, mesh=mesh, check_vma=check_vma, **specs)

for function in (mapped(True), mapped(False), loss):
    ours = jax.jit(jax.value_and_grad(lambda *a: function(*a).sum(), argnums=(0, 1, 3)))(*args)
    true = jax.value_and_grad(lambda *a: loss(*a).sum(), argnums=(0, 1, 3))(w, b, y, x)
    jax.tree.map(lambda a, c: np.testing.assert_allclose(a, c, rtol=1e-5, atol=1e-6), ours, true)
print("the same")
"""
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert finished.stdout.strip() == "the same", finished.stderr


def test_forward_mode_and_second_derivatives_raise():
    arrays, static = split(PROBLEM.arguments())
    loss = loss_of(static, arrays)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(loss, tables_of(arrays), tables_of(arrays))
    with pytest.raises(ValueError, match="cannot be differentiated"):
        jax.grad(lambda *tables: jax.grad(lambda *t: loss(*t).sum())(*tables).sum())(*tables_of(arrays))
    with pytest.raises(ValueError, match="cannot be differentiated"):
        jax.grad(lambda w: fastnce.jax.nce_value_and_rows(**{**arrays, "weights": w}, **static)[0].sum())(
            arrays["weights"]
        )


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_precision_is_that_of_the_numpy_entry(precision):
    problem = Case(batch=70, dim=66, sampled=90).problem()
    arrays, static = split({**problem.arguments(), "precision": precision})
    assert_same(value_and_rows(arrays, static), expected_rows(problem, precision=precision))


def test_the_default_precision_is_looked_up_when_a_call_runs():
    problem = Case(batch=70, dim=66, sampled=90).problem()
    arrays, static = split(problem.arguments())
    loss = jax.jit(lambda arrays: fastnce.jax.nce_loss(**arrays, **static))
    before = fastnce.get_precision()
    try:
        for precision in ("highest", "medium"):
            fastnce.set_precision(precision)
            np.testing.assert_array_equal(loss(arrays), fastnce.nce_loss(**problem.arguments()))
    finally:
        fastnce.set_precision(before)
    assert loss._cache_size() == 1


@pytest.mark.parametrize("dtypes", list(product(("float32", "float16", ml_dtypes.bfloat16), repeat=3)), ids=str)
def test_element_types_mix_as_in_the_numpy_entry(dtypes):
    mixed = {name: getattr(PROBLEM, name).astype(dtype) for name, dtype in zip(TABLES, dtypes, strict=True)}
    problem = replace(PROBLEM, **mixed)
    arrays, static = split(problem.arguments())
    assert_same(value_and_rows(arrays, static), expected_rows(problem))
    grads = jax.grad(lambda *tables: loss_of(static, arrays)(*tables).sum(), argnums=(0, 1, 2))(*tables_of(arrays))
    assert [grad.dtype for grad in grads] == [mixed[name].dtype for name in TABLES]


def test_float64_is_computed_in_float64_and_ids_are_int64(x64):
    problem = Case(batch=33, dim=17, sampled=20, num_true=3, dtype="float64").problem()
    ours = value_and_rows(*split(problem.arguments()))
    assert ours[2].ids.dtype == jnp.int64
    assert ours[0].dtype == jnp.float64
    assert_same(ours, expected_rows(problem))
    arrays, static = split({**problem.arguments(), "sampled_values": None})
    ours = value_and_rows({**arrays, "key": jax.random.key(3)}, static)
    assert_same(ours, expected_rows(problem, sampled_values=None, seed=(0, 3)))


def test_ids_may_need_64_bits(x64):
    arguments = (np.array([[0], [2**40 - 1]]), 1, 64, True, 2**40)
    ours = fastnce.jax.log_uniform_candidate_sampler(*arguments, key=jax.random.key(1))
    assert ours.sampled_candidates.max() >= 2**31
    assert_same(ours, fastnce.log_uniform_candidate_sampler(*arguments, seed=(0, 1)))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
@pytest.mark.parametrize("wide", [False, True], ids=["x32", "x64"])
def test_ids_may_be_any_integers(dtype, wide):
    with enable_x64(wide):
        ids, *counts = PROBLEM.sampled_values
        changes = {"labels": PROBLEM.labels.astype(dtype), "sampled_values": (ids.astype(dtype), *counts)}
        arrays, static = split({**PROBLEM.arguments(), **changes})
        assert_same(value_and_rows(arrays, static), expected_rows(PROBLEM))


def test_labels_of_one_class_may_be_a_vector():
    problem = Case(batch=6, sampled=7).problem()
    arguments = {**problem.arguments(), "labels": problem.labels[:, 0].tolist()}
    np.testing.assert_array_equal(fastnce.jax.nce_loss(**arguments), fastnce.nce_loss(**problem.arguments()))


def test_arguments_are_never_written_to():
    arrays, static = split(PROBLEM.arguments())
    before = jax.tree.map(np.array, arrays)
    _, _, rows = fastnce.jax.nce_value_and_rows(**arrays, **static)
    jax.block_until_ready(fastnce.jax.sgd_rows(arrays["weights"], arrays["biases"], rows, 0.1))
    jax.tree.map(np.testing.assert_array_equal, arrays, before)


def test_the_tables_are_given_to_the_handlers_where_they_are():
    # A table of which XLA made a copy would show as a temporary buffer of its size.
    arrays, static = split(Case(batch=4, dim=64, sampled=5000).problem().arguments())
    compiled = jax.jit(lambda arrays: fastnce.jax.nce_loss(**arrays, **static)).lower(arrays).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < arrays["weights"].nbytes / 10
