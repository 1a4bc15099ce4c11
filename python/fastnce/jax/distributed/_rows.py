"""Rows travel to the examples, and their gradients travel back.

The rows of samples, the same on all devices, are a sum over the devices, of which one has each row and the others
zeros: exact in any dtype. Those of true classes are such a sum of which each device receives its part. Shapes are
static: any device may hold all true classes of all, so that P n rows are made room for.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fastnce.jax._varying import axes_of, vary
from fastnce.jax.distributed._layout import Axis


class Travel(NamedTuple):
    """The classes whose rows travel; negative ones are none."""

    sampled: Any
    """``[S]``, the same on all devices."""
    true: Any
    """``[P, n]``: those of all devices."""

    @classmethod
    def of(cls, axis: Axis, sampled: Any, labels: Any) -> Travel:
        """``labels``: ``[n]`` of this device."""
        return cls(sampled, jax.lax.all_gather(labels, axis.name))

    @property
    def classes(self) -> Any:
        """``[S + P n]``."""
        return jnp.concatenate([self.sampled, self.true.reshape(-1)])


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def fetched(axis: Axis, dtype: Any, table: Any, travel: Travel) -> Any:
    """The rows ``[S + n, ...]`` of the samples and of the labels of this device, from ``[R, ...]`` on each.

    Differentiable in the table: its gradient sums up what all devices have for its rows.
    """
    sampled = jax.lax.psum(_held(axis, table, travel.sampled), axis.name)
    true = jax.lax.psum_scatter(_held(axis, table, travel.true), axis.name)
    return jnp.concatenate([sampled, true]).astype(dtype)


def _held(axis: Axis, table: Any, classes: Any) -> Any:
    """The rows of those classes that this device holds, zeros of the others."""
    owned = axis.owned(classes)
    rows = table[jnp.where(owned, classes // axis.size, 0)]
    return jnp.where(owned.reshape(owned.shape + (1,) * (rows.ndim - owned.ndim)), rows, 0)


def returned(axis: Axis, grads: Any, num_sampled: int) -> Any:
    """From the gradients ``[S + n, ...]`` on each device: those of ``Travel.classes``, ``[S + P n, ...]``."""
    sampled = jax.lax.psum(grads[:num_sampled], axis.name)
    true = jax.lax.all_gather(grads[num_sampled:], axis.name, tiled=True)
    return jnp.concatenate([sampled, true])


def own_rows(axis: Axis, classes: Any, absent: int) -> Any:
    """The rows that this device has of these classes; ``absent`` of others."""
    return jnp.where(axis.owned(classes), classes // axis.size, absent)


def _forward(axis: Axis, dtype: Any, table: Any, travel: Travel) -> Any:
    return fetched(axis, dtype, table, travel), (table, travel)


def _backward(axis: Axis, dtype: Any, residuals: Any, grads: Any) -> Any:
    table, travel = residuals
    rows = own_rows(axis, travel.classes, len(table))
    sums = jnp.zeros(table.shape, dtype).at[rows].add(returned(axis, grads, len(travel.sampled)), mode="drop")
    return vary(axes_of(table), sums.astype(table.dtype)), None


fetched.defvjp(_forward, _backward)


def coalesced(rows: Any, absent: int, *grads: Any) -> tuple[Any, ...]:
    """Distinct rows, ascending, and the sums of their gradients; those left over repeat the last row with zeros."""
    order = jnp.argsort(rows)
    rows = rows[order]
    is_first = jnp.concatenate([jnp.ones(1, bool), rows[1:] != rows[:-1]])[: len(rows)]
    places = jnp.cumsum(is_first) - 1

    def summed(values: Any) -> Any:
        values = jnp.where((rows < absent).reshape(-1, *(1,) * (values.ndim - 1)), values[order], 0)
        return jax.ops.segment_sum(values, places, len(rows), indices_are_sorted=True)

    distinct = jnp.full_like(rows, absent).at[places].set(rows, indices_are_sorted=True)
    last = jnp.max(jnp.where(rows < absent, rows, 0), initial=0)
    return jnp.minimum(distinct, last), *map(summed, grads)
