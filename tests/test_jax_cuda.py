"""fastnce.jax on a CUDA device: the CPU's ids, and its numbers as far as rounding goes."""

from __future__ import annotations

import functools

import numpy as np
import pytest

import cuda_arrays
import fastnce
from cases import Case
from jax_arrays import jax, jnp, ml_dtypes, split
from optimizers import EVERY_RULE
from tolerances import CUDA_OPTIMIZER_RELATIVE, relative_error

pytestmark = pytest.mark.cuda

PROBLEM = Case(batch=70, dim=40, sampled=65, num_true=2, remove_hits=True).problem()


@pytest.fixture
def device():
    if reason := cuda_arrays.why_not("jax"):
        pytest.skip(reason)
    return jax.devices("cuda")[0]


def on(device, arrays):
    return jax.tree.map(lambda array: jax.device_put(array, device), arrays)


def test_loss_and_rows_are_the_cpus(device):
    arrays, static = split(PROBLEM.arguments())
    expected = fastnce.nce_loss_and_grad(**PROBLEM.arguments(), pad_rows=True)
    ours = jax.jit(lambda arrays: fastnce.jax.nce_value_and_rows(**arrays, **static))(on(device, arrays))
    np.testing.assert_array_equal(ours[2].ids, expected[1].rows.ids)
    for actual, true in zip(
        (ours[0], ours[1], *ours[2][1:]), (expected[0], expected[1].inputs, *expected[1].rows[1:]), strict=True
    ):
        assert actual.devices() == {device}
        np.testing.assert_allclose(actual, true, rtol=1e-4, atol=1e-5)


def test_keys_draw_the_cpus_ids(device):
    labels, key = jnp.asarray(PROBLEM.labels), jax.random.key(5)
    cpu = fastnce.log_uniform_candidate_sampler(PROBLEM.labels, 2, 300, True, 10_000, seed=(0, 5))
    gpu = fastnce.jax.log_uniform_candidate_sampler(on(device, labels), 2, 300, True, 10_000, key=on(device, key))
    np.testing.assert_array_equal(gpu.sampled_candidates, cpu.sampled_candidates)
    np.testing.assert_allclose(gpu.sampled_expected_count, cpu.sampled_expected_count, rtol=1e-6)


def test_rows_are_updated_in_place(device):
    arrays, static = split(PROBLEM.arguments())
    arrays = on(device, arrays)
    weights, biases = (jnp.array(arrays.pop(name)) for name in ("weights", "biases"))
    pointer = weights.unsafe_buffer_pointer()

    def step(weights, biases):
        _, _, rows = fastnce.jax.nce_value_and_rows(weights, biases, **arrays, **static)
        return fastnce.jax.sgd_rows(weights, biases, rows, 0.5)

    new, _ = jax.jit(step, donate_argnums=(0, 1))(weights, biases)
    assert new.unsafe_buffer_pointer() == pointer
    _, grads = fastnce.nce_loss_and_grad(**PROBLEM.arguments())
    expected = PROBLEM.weights.copy()
    expected[grads.rows.ids] -= 0.5 * grads.rows.weights
    np.testing.assert_allclose(new, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("rule", EVERY_RULE, ids=str)
def test_optimizers_make_the_cpus_steps_in_the_memory_of_donated_tables(device, rule, dtype):
    arrays, static = split(PROBLEM.arguments())
    tables = [PROBLEM.weights.astype(dtype), PROBLEM.biases.astype(dtype)]
    del arrays["weights"], arrays["biases"]
    optimizer = getattr(fastnce.jax.optim, rule.optimizer.__name__)(**rule.options)

    @functools.partial(jax.jit, donate_argnums=0)
    def step(tables_and_state, arrays):
        _, _, rows = fastnce.jax.nce_value_and_rows(*tables_and_state[:2], **arrays, **static)
        return optimizer.update_rows(*tables_and_state, rows)

    results = []
    for place in (jax.devices("cpu")[0], device):
        given = [jnp.array(jax.device_put(table, place)) for table in tables]
        donated = (*given, jax.device_put(optimizer.init(*given), place))
        pointer = donated[0].unsafe_buffer_pointer()
        for _ in range(2):
            donated = step(donated, on(place, arrays))
        assert donated[0].unsafe_buffer_pointer() == pointer and donated[0].devices() == {place}
        results.append([np.asarray(array, np.float32) for array in jax.tree.leaves(donated)])
    for expected, actual in zip(*results, strict=True):
        assert relative_error(actual, expected) <= CUDA_OPTIMIZER_RELATIVE[np.dtype(dtype).name]


def test_a_batch_without_classes_touches_no_row(device):
    optimizer = fastnce.jax.optim.Adam(weight_decay=0.1)
    weights, biases = on(device, (jnp.ones((30, 5)), jnp.ones(30)))
    rows = fastnce.RowGrads(*on(device, (jnp.zeros(7, jnp.int32), jnp.zeros((7, 5)), jnp.zeros(7))))
    new, _, state = optimizer.update_rows(weights, biases, optimizer.init(weights, biases), rows)
    np.testing.assert_array_equal(new, weights)
    assert state["step"] == 1
