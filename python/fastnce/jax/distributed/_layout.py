"""Which device holds which class: row k of device r is class k P + r, so that frequent classes are spread evenly."""

from __future__ import annotations

import operator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Axis(NamedTuple):
    """The axis of the mesh over which the rows are spread."""

    name: Any
    """As collectives take it: a name, or a tuple of names."""
    size: int
    """P, the number of devices that hold the table together."""

    def rows(self, num_classes: int) -> int:
        """How many rows each device has: as many as the first needs."""
        return -(-num_classes // self.size)

    def owned(self, classes: Any) -> Any:
        """Which of these classes have their rows on this device; negative ones have none."""
        return (classes >= 0) & (classes % self.size == jax.lax.axis_index(self.name))


def axis_of(name: Any) -> Axis:
    """The axis of this name.

    Raises ValueError outside of a ``shard_map`` over it.
    """
    try:
        return Axis(name, jax.lax.psum(1, name))
    except NameError:
        raise ValueError(
            f"axis_name = {name!r}: expected an axis of the mesh of the jax.shard_map around this call"
        ) from None


def shard_rows(table: Any, size: int) -> Any:
    """A table in natural order, with its rows where ``size`` devices hold them.

    Args:
        table: ``[V, ...]``: weights, biases, or what an optimizer keeps for them.
        size: Devices that hold the table together, P.

    Returns:
        ``[P * R, ...]`` with R = ceil(V / P). Row r R + k is class k P + r: sharded over the first axis, ``P(axis)``,
        device r gets the classes r, r + P, r + 2 P, ... Rows beyond V are zeros, which no loss reads.

    Raises:
        ValueError: A table without axes, a size that is not positive.
    """
    table, size = jnp.asarray(table), _positive(size, "size")
    if table.ndim == 0:
        raise ValueError("table has shape []: expected [V, ...]")
    rows = -(-table.shape[0] // size)
    whole = jnp.pad(table, [(0, rows * size - table.shape[0]), *[(0, 0)] * (table.ndim - 1)])
    return whole.reshape(rows, size, *table.shape[1:]).swapaxes(0, 1).reshape(whole.shape)


def natural_rows(table: Any, size: int, num_classes: int) -> Any:
    """The inverse of :func:`shard_rows`: ``[V, ...]`` in natural order, V = ``num_classes``.

    Raises:
        ValueError: A table that has not ``size * ceil(V / size)`` rows.
    """
    table, size, num_classes = jnp.asarray(table), _positive(size, "size"), operator.index(num_classes)
    rows = -(-num_classes // size)
    if table.ndim == 0 or table.shape[0] != rows * size:
        raise ValueError(
            f"table has shape {list(table.shape)}: expected [{rows * size}, ...], {rows} rows of num_classes = "
            f"{num_classes} on each of size = {size} devices"
        )
    return table.reshape(size, rows, *table.shape[1:]).swapaxes(0, 1).reshape(table.shape)[:num_classes]


def _positive(value: Any, name: str) -> int:
    value = operator.index(value)
    if value < 1:
        raise ValueError(f"{name} = {value}: expected at least 1")
    return int(value)
