"""Problems as JAX arrays. Importing this imports ``fastnce.jax``, or skips the module where that cannot be."""

from __future__ import annotations

import pytest

import fastnce

jax = pytest.importorskip("jax", reason="JAX is not installed")
import jax.numpy as jnp  # noqa: E402
import ml_dtypes  # noqa: E402, F401 (JAX requires it; for the modules that import this one)
import numpy as np  # noqa: E402

import fastnce.jax  # noqa: E402

ARRAYS = ("weights", "biases", "labels", "inputs", "sampled_values", "grad_loss")

# jax.enable_x64 came with jax 0.8.
enable_x64 = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64

RUN_TIME_ERRORS = (jax.errors.JaxRuntimeError, ValueError)
"""What a handler's error becomes: the second where XLA runs a program at once, as it does with small ones."""


def split(arguments):
    """Arguments of a loss as (JAX arrays, what is static)."""
    arrays = {name: jax.tree.map(jnp.asarray, value) for name, value in arguments.items() if name in ARRAYS}
    return arrays, {name: value for name, value in arguments.items() if name not in ARRAYS}


def expected_rows(problem, **changes):
    """Loss, gradient of inputs and padded rows by the NumPy entry."""
    loss, grads = fastnce.nce_loss_and_grad(**{**problem.arguments(), **changes}, pad_rows=True)
    return loss, grads.inputs, *grads.rows


def assert_same(ours, expected):
    """The same numbers, to the bit, and the same dtypes but for ids."""
    for actual, true in zip(jax.tree.leaves(ours), expected, strict=True):
        if true.dtype != np.int64:
            assert actual.dtype == true.dtype
        np.testing.assert_array_equal(np.asarray(actual), true)
