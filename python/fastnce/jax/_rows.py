"""Updates of tables by sparse gradients: O(rows) where the tables are donated."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from fastnce._errors import is_a
from fastnce._types import RowGrads
from fastnce.jax._arguments import fits, floating, id_dtype, number, require_array
from fastnce.jax._handlers import replace_rows


def sgd_rows(weights: Any, biases: Any, rows: RowGrads, learning_rate: Any) -> tuple[Any, Any]:
    """A step of stochastic gradient descent on the rows that a batch touches.

    A pure function: it returns new tables. Under a ``jit`` to which the tables are donated (``donate_argnums``), XLA
    updates them in place, in O(rows); otherwise it copies them first.

    Args:
        weights: ``[V, D]``.
        biases: ``[V]``; ``None`` where ``rows`` has none.
        rows: As :func:`nce_value_and_rows` returns them, ids ascending. The first of the rows with one id counts; the
            others are padding.
        learning_rate: A scalar, which may be traced.

    Returns:
        ``(weights, biases)``. The step of a 16-bit table is computed in float32 and rounded once.

    Raises:
        ValueError: When traced: rows that do not fit the tables, a learning rate that is no scalar.
        TypeError: When traced: arguments of the wrong kind, tables that are not of floating point, ids that are not
            int32 or int64.
        jax.errors.JaxRuntimeError: When run on the CPU: an id that is no row of the tables; other devices do not check.
    """
    weights, biases, rows = checked(weights, biases, rows)
    learning_rate = number(learning_rate, "learning_rate")

    def step(table: Any, grads: Any) -> Any:
        if table is None:
            return None
        old, grads = _wide(table[rows.ids]), _wide(grads)
        return replace_rows(table, rows.ids, (old - learning_rate * grads).astype(table.dtype))

    return step(weights, rows.weights), step(biases, rows.biases)


def adagrad_rows(
    weights: Any,
    biases: Any,
    accumulators: tuple[Any, Any],
    rows: RowGrads,
    learning_rate: Any,
    *,
    epsilon: float = 1e-10,
) -> tuple[Any, Any, tuple[Any, Any]]:
    """A step of Adagrad on the rows that a batch touches, as ``torch.optim.Adagrad`` with sparse gradients.

    ::

        a[id] += g * g
        w[id] -= learning_rate * g / (sqrt(a[id]) + epsilon)

    Args:
        accumulators: ``(of weights [V, D], of biases [V])``, of any floating-point dtype, initially zeros. Donate them
            with the tables.
        epsilon: The default is PyTorch's. (``optax.adagrad`` has 1e-7, under the root, and begins with 0.1.)

    The other arguments, donation and the errors are those of :func:`sgd_rows`.

    Returns:
        ``(weights, biases, accumulators)``.
    """
    weights, biases, rows = checked(weights, biases, rows)
    sums = _checked_accumulators(accumulators, weights, biases)
    learning_rate, epsilon = number(learning_rate, "learning_rate"), number(epsilon, "epsilon")

    def step(table: Any, sums: Any, grads: Any) -> tuple[Any, Any]:
        if table is None:
            return None, None
        old, grads = _wide(table[rows.ids]), _wide(grads)
        new_sums = _wide(sums[rows.ids]) + grads * grads
        new = old - learning_rate * grads / (jnp.sqrt(new_sums) + epsilon)
        return (
            replace_rows(table, rows.ids, new.astype(table.dtype)),
            replace_rows(sums, rows.ids, new_sums.astype(sums.dtype)),
        )

    new_weights, weight_sums = step(weights, sums[0], rows.weights)
    new_biases, bias_sums = step(biases, sums[1], rows.biases)
    return new_weights, new_biases, (weight_sums, bias_sums)


def _wide(array: Any) -> Any:
    return array.astype(jnp.float64 if array.dtype == jnp.float64 else jnp.float32)


def checked(weights: Any, biases: Any, rows: Any) -> tuple[Any, Any, RowGrads]:
    """The tables and the rows as JAX arrays, if the rows fit the tables."""
    weights = floating(weights, "weights")
    if not isinstance(rows, RowGrads):
        raise TypeError(f"rows {is_a(rows)}: expected fastnce.RowGrads, as nce_value_and_rows returns them")
    if biases is not None or rows.biases is not None:
        biases = floating(biases, "biases")
    ids = rows.ids
    require_array(ids, "rows.ids")
    if ids.dtype not in (jnp.int32, jnp.int64):
        raise TypeError(f"rows.ids has dtype {ids.dtype}: expected int32 or int64")
    if ids.ndim != 1:
        raise ValueError(f"rows.ids has shape {list(ids.shape)}: expected [n]")
    if isinstance(ids, np.ndarray) and ids.size:
        for bound in map(int, (ids.min(), ids.max())):
            if not fits(bound, id_dtype()):  # JAX would cut it short, to another row
                raise ValueError(f"rows.ids holds {bound}: expected rows of weights, in [0, {len(weights)})")
    grads = (
        floating(rows.weights, "rows.weights"),
        rows.biases if biases is None else floating(rows.biases, "rows.biases"),
    )
    for name, table, grad in (("weights", weights, grads[0]), ("biases", biases, grads[1])):
        if table is None:
            continue
        if table.ndim != grad.ndim or grad.shape != (*ids.shape, *table.shape[1:]):
            raise ValueError(
                f"{name} has shape {list(table.shape)}, but rows.{name} has shape {list(grad.shape)} for ids of shape "
                f"{list(ids.shape)}: expected [V, ...] and [n, ...] for [n]"
            )
    return weights, biases, RowGrads(ids, *grads)


def _checked_accumulators(accumulators: Any, weights: Any, biases: Any) -> tuple[Any, Any]:
    if not isinstance(accumulators, list | tuple):
        raise TypeError(f"accumulators {is_a(accumulators)}: expected a pair (of weights, of biases)")
    if len(accumulators) != 2:
        raise ValueError(f"accumulators has {len(accumulators)} parts: expected a pair (of weights, of biases)")
    tables = [("weights", weights), *([] if biases is None else [("biases", biases)])]
    sums = []
    for i, (name, table) in enumerate(tables):
        sums.append(floating(accumulators[i], f"accumulators[{i}]"))
        if sums[i].shape != table.shape:
            raise ValueError(
                f"accumulators[{i}] has shape {list(sums[i].shape)}: expected {list(table.shape)}, the shape of {name}"
            )
    return sums[0], None if biases is None else sums[1]
