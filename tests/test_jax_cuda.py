"""fastnce.jax on a CUDA device: the CPU's ids, and its numbers as far as rounding goes."""

from __future__ import annotations

import numpy as np
import pytest

import cuda_arrays
import fastnce
from cases import Case
from jax_arrays import jax, jnp, split

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
