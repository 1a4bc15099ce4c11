"""Rows travel to the examples, and their gradients travel back.

The rows of samples, the same on all devices, are a sum over the devices, of which one has each row and the others
zeros: exact in any dtype. The rows of true classes go from each owner to each device that has them among its labels,
each once. Shapes are static, but how many these are is not: they travel in rounds of as many for each pair of devices,
and there are as many rounds as the busiest pair needs; usually one.
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


class Travel(NamedTuple):
    """The classes whose rows travel; negative ones are none."""

    sampled: Any
    """``[S]``, the same on all devices."""
    labels: Any
    """``[P, n]``, of all devices."""
    slots: Any
    """``[P, n]``: the number of each label among the distinct ones of its device that have the same owner."""

    @classmethod
    def of(cls, axis: Axis, sampled: Any, labels: Any) -> Travel:
        """``labels``: ``[n]`` of this device."""
        owners = jnp.where(labels < 0, axis.size, labels % axis.size)
        owners, classes, order = jax.lax.sort((owners, labels, jnp.arange(labels.size)), num_keys=2)
        is_new_owner = _differs(owners)
        number = jnp.cumsum(is_new_owner | _differs(classes)) - 1
        slots = number - jax.lax.cummax(jnp.where(is_new_owner, number, 0))
        own = jnp.stack([labels, jnp.zeros_like(labels).at[order].set(slots.astype(labels.dtype))])
        of_all = jax.lax.all_gather(own, axis.name)
        return cls(sampled, of_all[:, 0], of_all[:, 1])

    @property
    def classes(self) -> Any:
        """``[S + P n]``."""
        return jnp.concatenate([self.sampled, self.labels.reshape(-1)])


def _differs(values: Any) -> Any:
    """Which differ from the one before them; the first does."""
    return jnp.concatenate([jnp.ones(1, bool), values[1:] != values[:-1]])[: values.size]


class _Rounds:
    """What travels in which round, and where it is in the exchange: ``[P * m, ...]``, m rows for each other device."""

    def __init__(self, axis: Axis, travel: Travel, num_rows: int) -> None:
        self._axis, self._travel = axis, travel
        self._most = rows_per_round(axis, travel.labels.shape[1], num_rows)
        self.size = axis.size * self._most

    def run(self, one_round: Callable[[Any, Any], Any], first: Any) -> Any:
        """``one_round(k, values)`` for each k, beginning with ``first``, which are declared to vary."""
        if self.size == 0:
            return first
        first = jax.tree.map(lambda values: vary(axes_of(self._travel.labels, *jax.tree.leaves(first)), values), first)
        used = jnp.max(jnp.where(self._travel.labels < 0, 0, self._travel.slots + 1))
        return jax.lax.fori_loop(0, -(-used // self._most), one_round, first)

    def arriving(self, k: Any) -> Any:
        """``[n]``: where the row of each label of this device arrives; ``size`` if not in this round."""
        device = jax.lax.axis_index(self._axis.name)
        labels, slots = self._travel.labels[device], self._travel.slots[device]
        return self._places(k, labels >= 0, labels % self._axis.size, slots)

    def leaving(self, k: Any, values: Any, none: int) -> Any:
        """``[P * m]``: of values ``[P, n]`` for each label of all devices, those whose rows leave this device."""
        owned = self._axis.owned(self._travel.labels)
        places = self._places(k, owned, jnp.arange(self._axis.size)[:, None], self._travel.slots)
        return jnp.full(self.size, none, values.dtype).at[places].set(values, mode="drop")

    def _places(self, k: Any, travels: Any, devices: Any, slots: Any) -> Any:
        slots = slots - k * self._most
        return jnp.where(travels & (slots >= 0) & (slots < self._most), devices * self._most + slots, self.size)

    def exchanged(self, rows: Any) -> Any:
        """What this device has for the others, against what they have for this one."""
        return jax.tree.map(lambda array: jax.lax.all_to_all(array, self._axis.name, 0, 0, tiled=True), rows)


def rows_per_round(axis: Axis, num_labels: int, num_rows: int) -> int:
    """How many rows an owner sends to each device in a round. Of n labels that fall on owners by chance, n / P are of
    each; with three standard deviations more, one round is enough in almost all cases."""
    mean = num_labels / axis.size
    return min(num_labels, num_rows, math.ceil(mean + 3 * math.sqrt(mean)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def fetched(axis: Axis, dtype: Any, tables: Any, travel: Travel) -> Any:
    """The rows ``[S + n, ...]`` of the samples and of the labels of this device, from tables of ``[R, ...]`` on each.

    Differentiable in the tables: their gradients sum up what all devices have for their rows.
    """
    rounds = _Rounds(axis, travel, _num_rows(tables))

    def held(classes: Any) -> Any:
        """The rows of those classes that this device holds, zeros of the others."""
        owned, rows = axis.owned(classes), own_rows(axis, classes, 0)
        return jax.tree.map(lambda table: jnp.where(_beside(owned, table), table[rows], 0), tables)

    def one_round(k: Any, true: Any) -> Any:
        rows = rounds.exchanged(held(rounds.leaving(k, travel.labels, -1)))
        places = rounds.arriving(k)
        arrives, places = places < rounds.size, jnp.minimum(places, rounds.size - 1)
        return jax.tree.map(lambda old, new: jnp.where(_beside(arrives, new), new[places], old), true, rows)

    num_labels = travel.labels.shape[1]
    true = jax.tree.map(lambda table: jnp.zeros_like(table, shape=(num_labels, *table.shape[1:])), tables)
    sampled, true = jax.lax.psum(held(travel.sampled), axis.name), rounds.run(one_round, true)
    return jax.tree.map(lambda *parts: jnp.concatenate(parts).astype(dtype), sampled, true)


def returned(axis: Axis, travel: Travel, num_rows: int, grads: Any, sums: Any, places: Any) -> Any:
    """Adds to ``sums`` the gradients ``[S + n, ...]`` that each device has for rows of this one. ``places``: where each
    of ``travel.classes`` has its sum, beyond them if on another device."""
    rounds, num_sampled = _Rounds(axis, travel, num_rows), travel.sampled.size
    from_samples = jax.tree.map(lambda grad: grad[:num_sampled], grads)
    from_labels = jax.tree.map(lambda grad: grad[num_sampled:], grads)
    of_labels, beyond = places[num_sampled:].reshape(travel.labels.shape), _num_rows(sums)

    def one_round(k: Any, sums: Any) -> Any:
        none = jax.tree.map(lambda grad: jnp.zeros((rounds.size, *grad.shape[1:]), grad.dtype), from_labels)
        own = _added(none, rounds.arriving(k), from_labels)  # labels of one class share a place
        return _added(sums, rounds.leaving(k, of_labels, beyond), rounds.exchanged(own))

    sums = _added(sums, places[:num_sampled], jax.lax.psum(from_samples, axis.name))
    return rounds.run(one_round, sums)


def own_rows(axis: Axis, classes: Any, absent: int) -> Any:
    """The rows that this device has of these classes; ``absent`` of others."""
    return jnp.where(axis.owned(classes), classes // axis.size, absent)


def _num_rows(tables: Any) -> int:
    return len(jax.tree.leaves(tables)[0])


def _added(sums: Any, places: Any, rows: Any) -> Any:
    return jax.tree.map(lambda old, new: old.at[places].add(new, mode="drop"), sums, rows)


def _beside(flags: Any, rows: Any) -> Any:
    """``[n]`` flags for rows ``[n, ...]``."""
    return flags.reshape(flags.shape + (1,) * (rows.ndim - flags.ndim))


def _forward(axis: Axis, dtype: Any, tables: Any, travel: Travel) -> Any:
    return fetched(axis, dtype, tables, travel), (tables, travel)


def _backward(axis: Axis, dtype: Any, residuals: Any, grads: Any) -> Any:
    tables, travel = residuals
    num_rows = _num_rows(tables)
    sums = jax.tree.map(lambda table: jnp.zeros(table.shape, dtype), tables)
    sums = returned(axis, travel, num_rows, grads, sums, own_rows(axis, travel.classes, num_rows))
    return jax.tree.map(lambda table, grad: vary(axes_of(table), grad.astype(table.dtype)), tables, sums), None


fetched.defvjp(_forward, _backward)


class OwnRows:
    """The distinct rows of this device that are of samples or of labels of any device, ascending."""

    def __init__(self, axis: Axis, travel: Travel, num_rows: int) -> None:
        self._axis, self._travel, self._num_rows = axis, travel, num_rows
        rows = own_rows(axis, travel.classes, num_rows)
        self._size = min(rows.size, num_rows)
        sorted_rows, order = jax.lax.sort((rows, jnp.arange(rows.size)), num_keys=1)
        places = jnp.cumsum(_differs(sorted_rows)) - 1
        self._places = jnp.where(rows < num_rows, jnp.zeros_like(places).at[order].set(places), self._size)
        distinct = jnp.full(self._size, num_rows, rows.dtype).at[places].set(sorted_rows, mode="drop")
        self.ids = jnp.minimum(distinct, jnp.max(jnp.where(rows < num_rows, rows, 0), initial=0))
        """``[N]``; those left over repeat the last one."""

    def returned(self, grads: Any) -> Any:
        """``[N, ...]``: the sums of the gradients ``[S + n, ...]`` that each device has."""
        sums = jax.tree.map(lambda grad: jnp.zeros((self._size, *grad.shape[1:]), grad.dtype), grads)
        return returned(self._axis, self._travel, self._num_rows, grads, sums, self._places)
