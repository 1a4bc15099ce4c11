"""Rows travel to the examples, and their gradients travel back.

The rows of samples, the same on all devices, are a sum over the devices, of which one has each row and the others
zeros: exact in any dtype. A device asks the owners for the rows of its own true classes, each once. Shapes are static,
but how many rows an owner is asked for is not: rows travel in rounds of as many for each pair of devices, and there are
as many rounds as the busiest pair needs; usually one.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fastnce.jax._varying import axes_of, vary
from fastnce.jax.distributed._layout import Axis


def rows_per_round(axis: Axis, num_labels: int, num_rows: int) -> int:
    """How many rows a device asks each owner for in a round. Of n labels that fall on owners by chance, n / P do, and
    three standard deviations more are enough for one round in almost all cases."""
    mean = num_labels / axis.size
    return min(num_labels, num_rows, math.ceil(mean + 3 * math.sqrt(mean)))


class Travel(NamedTuple):
    """The classes whose rows travel; negative ones are none."""

    sampled: Any
    """``[S]``, the same on all devices."""
    labels: Any
    """``[n]`` of this device."""
    slots: Any
    """``[n]``: the number of each among the distinct labels of its owner."""
    most: Any
    """Of distinct labels of an owner, on the device that has most of one: the same on all devices."""

    @classmethod
    def of(cls, axis: Axis, sampled: Any, labels: Any) -> Travel:
        owners = jnp.where(labels < 0, axis.size, labels % axis.size)
        owners, classes, places = jax.lax.sort((owners, labels, jnp.arange(labels.size)), num_keys=2)
        is_new_owner = _differs(owners)
        number = jnp.cumsum(is_new_owner | _differs(classes)) - 1
        sorted_slots = number - jax.lax.cummax(jnp.where(is_new_owner, number, 0))
        slots = jnp.zeros_like(sorted_slots).at[places].set(sorted_slots)
        most = jnp.max(jnp.where(labels < 0, 0, slots + 1), initial=0)
        return cls(sampled, labels, slots, jax.lax.pmax(most, axis.name))


def _differs(values: Any) -> Any:
    """Which differ from the one before them; the first does."""
    return jnp.concatenate([jnp.ones(1, bool), values[1:] != values[:-1]])[: values.size]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def fetched(axis: Axis, dtype: Any, table: Any, travel: Travel) -> Any:
    """The rows ``[S + n, ...]`` of the samples and of the labels of this device, from ``[R, ...]`` on each.

    Differentiable in the table: its gradient sums up what all devices have for its rows.
    """
    per_round = rows_per_round(axis, travel.labels.size, len(table))
    sampled = jax.lax.psum(_held(axis, table, travel.sampled), axis.name)

    def one_round(k: Any, true: Any) -> Any:
        places, asked = _asked(axis, travel, k, per_round)
        rows = _exchanged(axis, _held(axis, table, asked))
        arrives = _beside(places < len(rows), rows)
        return jnp.where(arrives, rows[jnp.minimum(places, len(rows) - 1)], true)

    true = vary(axes_of(table, travel.labels), jnp.zeros((travel.labels.size, *table.shape[1:]), table.dtype))
    true = _in_rounds(travel, per_round, one_round, true)
    return jnp.concatenate([sampled, true]).astype(dtype)


def returned(
    axis: Axis, travel: Travel, num_rows: int, grads: Any, sums: Any, place_of: Callable[[Any], Any]
) -> Any:
    """Adds to ``sums`` the gradients ``[S + n, ...]`` that each device has for rows of this one. ``place_of``: where
    rows have their sums; that of ``num_rows`` is beyond them."""
    per_round, num_sampled = rows_per_round(axis, travel.labels.size, num_rows), travel.sampled.size

    def added(sums: Any, classes: Any, grads: Any) -> Any:
        return sums.at[place_of(own_rows(axis, classes, num_rows))].add(grads, mode="drop")

    def one_round(k: Any, sums: Any) -> Any:
        places, asked = _asked(axis, travel, k, per_round)
        own = jnp.zeros((asked.size, *grads.shape[1:]), grads.dtype).at[places].add(grads[num_sampled:], mode="drop")
        return added(sums, asked, _exchanged(axis, own))

    sums = added(sums, travel.sampled, jax.lax.psum(grads[:num_sampled], axis.name))
    return _in_rounds(travel, per_round, one_round, vary(axes_of(grads, travel.labels), sums))


def own_rows(axis: Axis, classes: Any, absent: int) -> Any:
    """The rows that this device has of these classes; ``absent`` of others."""
    return jnp.where(axis.owned(classes), classes // axis.size, absent)


def _held(axis: Axis, table: Any, classes: Any) -> Any:
    """The rows of those classes that this device holds, zeros of the others."""
    owned = axis.owned(classes)
    rows = table[jnp.where(owned, classes // axis.size, 0)]
    return jnp.where(_beside(owned, rows), rows, 0)


def _asked(axis: Axis, travel: Travel, k: Any, per_round: int) -> tuple[Any, Any]:
    """Round k: where in the exchange each label of this device has its row, beyond it if in another round; and the
    classes ``[P * per_round]`` that this device is asked for."""
    _, labels, slots, _ = travel
    slots = slots - k * per_round
    travels = (labels >= 0) & (slots >= 0) & (slots < per_round)
    places = jnp.where(travels, labels % axis.size * per_round + slots, axis.size * per_round)
    asks = jnp.full(axis.size * per_round, -1, labels.dtype).at[places].set(labels, mode="drop")
    return places, _exchanged(axis, asks)


def _exchanged(axis: Axis, rows: Any) -> Any:
    """``[P * m, ...]``: m for each device, against what each has for this one."""
    return jax.lax.all_to_all(rows, axis.name, 0, 0, tiled=True)


def _in_rounds(travel: Travel, per_round: int, one_round: Callable[[Any, Any], Any], first: Any) -> Any:
    if per_round == 0:
        return first
    return jax.lax.fori_loop(0, -(-travel.most // per_round), one_round, first)


def _beside(flags: Any, rows: Any) -> Any:
    return flags.reshape(flags.shape + (1,) * (rows.ndim - flags.ndim))


def _forward(axis: Axis, dtype: Any, table: Any, travel: Travel) -> Any:
    return fetched(axis, dtype, table, travel), (table, travel)


def _backward(axis: Axis, dtype: Any, residuals: Any, grads: Any) -> Any:
    table, travel = residuals
    sums = returned(axis, travel, len(table), grads, jnp.zeros(table.shape, dtype), lambda rows: rows)
    return vary(axes_of(table), sums.astype(table.dtype)), None


fetched.defvjp(_forward, _backward)


class OwnRows:
    """The distinct rows of this device that are of samples or of labels of any device, ascending."""

    def __init__(self, axis: Axis, travel: Travel, num_rows: int) -> None:
        of_all = jax.lax.all_gather(travel.labels, axis.name, tiled=True)
        rows = jax.lax.sort(own_rows(axis, jnp.concatenate([travel.sampled, of_all]), num_rows))
        self._axis, self._travel, self._num_rows = axis, travel, num_rows
        self._size = min(rows.size, num_rows)
        places = jnp.cumsum(_differs(rows)) - 1
        self._rows = jnp.full_like(rows, num_rows, shape=self._size).at[places].set(rows, mode="drop")
        last = jnp.max(jnp.where(self._rows < num_rows, self._rows, 0), initial=0)
        self.ids = jnp.minimum(self._rows, last)
        """``[N]``; those left over repeat the last one."""

    def returned(self, grads: Any) -> Any:
        """``[N, ...]``: the sums of the gradients ``[S + n, ...]`` that each device has."""

        def place_of(rows: Any) -> Any:
            places = jnp.searchsorted(self._rows, rows, method="sort")
            return jnp.where(rows < self._num_rows, places, self._size)

        sums = jnp.zeros((self._size, *grads.shape[1:]), grads.dtype)
        return returned(self._axis, self._travel, self._num_rows, grads, sums, place_of)
