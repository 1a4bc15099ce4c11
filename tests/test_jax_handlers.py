"""Handlers called without fastnce.jax: calls that do not fit are refused, because XLA's buffers have no other guard."""

from __future__ import annotations

import numpy as np
import pytest

from cases import Case
from jax_arrays import RUN_TIME_ERRORS, expected_rows, jax, jnp

PROBLEM = Case(batch=4, dim=3, sampled=5, num_true=2).problem()
ENTRIES = 4 * 2 + 5


def direct_call(row_ids, weight_rows, bias_rows):
    """Loss, gradient of inputs (not asked for), ids, weights and biases: results of these numbers of rows."""
    shapes = ((4,), (0, 3), (row_ids, 2), (weight_rows, 3), (bias_rows,))
    dtypes = (jnp.float32, jnp.float32, jnp.int32, jnp.float32, jnp.float32)
    call = jax.ffi.ffi_call("fastnce_sampled_loss", tuple(map(jax.ShapeDtypeStruct, shapes, dtypes)))
    ids, *counts = PROBLEM.sampled_values
    arrays = (PROBLEM.weights, PROBLEM.biases, PROBLEM.labels, PROBLEM.inputs, ids, *counts, *[np.zeros(0, int)] * 8)
    operands = [jnp.asarray(array, jnp.int32 if array.dtype.kind == "i" else jnp.float32) for array in arrays]
    options = {"num_classes": np.int64(len(PROBLEM.weights)), "remove_accidental_hits": np.bool_(False)}
    return jax.block_until_ready(call(*operands, **options))


@pytest.mark.parametrize(
    ("row_ids", "weight_rows", "bias_rows"),
    [
        (0, ENTRIES, ENTRIES),
        (0, ENTRIES, 0),
        (0, 0, ENTRIES),
        (ENTRIES - 1, ENTRIES, ENTRIES),
        (ENTRIES, 0, 0),
    ],
)
def test_rows_of_gradients_need_as_many_ids(row_ids, weight_rows, bias_rows):
    with pytest.raises(RUN_TIME_ERRORS, match=f"row ids have {row_ids * 8} bytes: expected "):
        direct_call(row_ids, weight_rows, bias_rows)


@pytest.mark.parametrize(("weight_rows", "bias_rows"), [(ENTRIES, 0), (0, ENTRIES), (ENTRIES, ENTRIES)])
def test_either_table_may_go_without_a_gradient(weight_rows, bias_rows):
    _, _, ids, weights, biases = direct_call(ENTRIES, weight_rows, bias_rows)
    _, _, expected_ids, *expected = expected_rows(PROBLEM)
    np.testing.assert_array_equal(ids[:, 0], expected_ids)
    for ours, rows, count in zip((weights, biases), expected, (weight_rows, bias_rows), strict=True):
        np.testing.assert_array_equal(ours, rows[:count])
