"""Updates of tables by sparse gradients: O(rows) where the tables are donated."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from fastnce._types import RowGrads
from fastnce.jax._arguments import refuse_float64
from fastnce.jax._handlers import replace_rows


def sgd_rows(weights: Any, biases: Any, rows: RowGrads, learning_rate: Any) -> tuple[Any, Any]:
    """A step of stochastic gradient descent on the rows that a batch touches.

    Pure, as all of JAX. Under a ``jit`` that the tables are donated to (``donate_argnums``) they are updated where they
    are, in O(rows); otherwise they are copied first.

    Args:
        weights: ``[V, D]``.
        biases: ``[V]``.
        rows: Of :func:`nce_value_and_rows`. Ids ascending; of rows with the same id the first counts, the others are
            taken for padding.
        learning_rate: A scalar, which may be traced.

    Returns:
        ``(weights, biases)``. 16-bit tables are computed with in float32 and rounded once.

    Raises:
        ValueError: When traced: rows that do not fit the tables, a learning rate that is no scalar.
        TypeError: When traced: tables that are not of floating point, ids that are not int32 or int64.
        jax.errors.JaxRuntimeError: When run on the CPU: an id that is no row of the tables. Elsewhere nobody looks.
    """
    weights, biases = jnp.asarray(weights), jnp.asarray(biases)
    _check(rows, learning_rate, weights=weights, biases=biases)

    def step(table: Any, grads: Any) -> Any:
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
    """A step of Adagrad on the rows that a batch touches, as ``torch.optim.Adagrad`` does it for sparse gradients.

    ::

        a[id] += g * g
        w[id] -= learning_rate * g / (sqrt(a[id]) + epsilon)

    Args:
        accumulators: ``(of weights [V, D], of biases [V])``, of any floating-point dtype; zeros to begin with. Donate
            them with the tables.
        epsilon: The default is PyTorch's. (``optax.adagrad`` has 1e-7, under the root, and begins with 0.1.)

    The other arguments, donation and the errors are those of :func:`sgd_rows`.

    Returns:
        ``(weights, biases, accumulators)``.
    """
    weights, biases, *sums = map(jnp.asarray, (weights, biases, *accumulators))
    _check(rows, learning_rate, weights=weights, biases=biases)
    _check(rows, learning_rate, **{"accumulators[0]": sums[0], "accumulators[1]": sums[1]})

    def step(table: Any, sums: Any, grads: Any) -> tuple[Any, Any]:
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


def _check(rows: RowGrads, learning_rate: Any, **tables: Any) -> None:
    if jnp.ndim(learning_rate) != 0:
        raise ValueError(f"learning_rate has shape {list(jnp.shape(learning_rate))}: expected a scalar")
    if rows.ids.dtype not in (jnp.int32, jnp.int64):
        raise TypeError(f"rows.ids has dtype {rows.ids.dtype}: expected int32 or int64")
    for (name, table), (field, grads) in zip(
        tables.items(), (("rows.weights", rows.weights), ("rows.biases", rows.biases)), strict=True
    ):
        for argument, array in ((name, table), (field, grads)):
            refuse_float64(array, argument)
            if not jnp.issubdtype(array.dtype, jnp.floating):
                raise TypeError(f"{argument} has dtype {array.dtype}: expected floating point")
        expected = (*rows.ids.shape, *table.shape[1:])
        if grads.shape != expected or table.ndim != grads.ndim:
            raise ValueError(
                f"{name} has shape {list(table.shape)}, but its rows have shape {list(grads.shape)} for ids of shape "
                f"{list(rows.ids.shape)}: expected [V, ...] and [n, ...] for [n]"
            )
