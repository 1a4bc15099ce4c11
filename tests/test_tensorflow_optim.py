"""fastnce.optim beside TensorFlow's sparse optimizers, where it is installed: the same steps, the same tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastnce
from tolerances import OPTIMIZER_RELATIVE, relative_error

tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")

ADAGRAD: dict[str, tuple[Callable[[float], Any], dict[str, Any]]] = {
    "v1": (
        lambda lr: tf.compat.v1.train.AdagradOptimizer(lr, initial_accumulator_value=0.1),
        {"initial_accumulator_value": 0.1, "eps": 0.0},
    ),
    "keras": (
        lambda lr: tf.keras.optimizers.Adagrad(lr, initial_accumulator_value=0.1, epsilon=1e-7),
        {"initial_accumulator_value": 0.1, "eps": 1e-7, "eps_inside_sqrt": True},
    ),
}
"""By TensorFlow's forms of Adagrad: its optimizer of a learning rate, and the arguments of ours."""


def draw_ids(form: str, rng: np.random.Generator) -> np.ndarray:
    """Classes in any order. Keras adds the square of each gradient of a class to its sum, where Adagrad has the square
    of their sum: equal only where a class occurs once."""
    return rng.permutation(60)[:25] if form == "keras" else rng.integers(60, size=25)


@pytest.mark.parametrize("dim", [1, 7, 32])
@pytest.mark.parametrize("form", ADAGRAD)
def test_50_steps_of_adagrad_are_those_of_tensorflow(form: str, dim: int) -> None:
    make, arguments = ADAGRAD[form]
    rng = np.random.default_rng(dim)
    weights, biases = rng.normal(size=(60, dim)).astype(np.float32), rng.normal(size=60).astype(np.float32)
    variables = tf.Variable(weights), tf.Variable(biases)
    theirs, ours = make(0.1), fastnce.optim.Adagrad(weights, biases, lr=0.1, **arguments)
    for _ in range(50):
        ids = draw_ids(form, rng)
        rows, bias_rows = rng.normal(size=(25, dim)).astype(np.float32), rng.normal(size=25).astype(np.float32)
        slices = [tf.IndexedSlices(tf.constant(values), tf.constant(ids), None) for values in (rows, bias_rows)]
        theirs.apply_gradients(zip(slices, variables, strict=True))
        ours.update_rows(ids, rows, bias_rows)
    for table, variable in zip((weights, biases), variables, strict=True):
        assert relative_error(table, variable.numpy()) <= OPTIMIZER_RELATIVE["float32"]


def test_the_gradients_of_a_step_may_be_tensorflows() -> None:
    weights = np.ones((5, 3), np.float32)
    expected = weights.copy()
    expected[[1, 4]] -= 0.5
    optimizer = fastnce.optim.SGD(weights, lr=0.5)
    optimizer.update_rows(tf.constant([4, 1]), tf.ones((2, 3)))
    assert np.array_equal(weights, expected)
    with pytest.raises(
        TypeError, match="weights is an EagerTensor, which cannot be written to: expected a NumPy array"
    ):
        fastnce.optim.SGD(tf.constant(weights))
