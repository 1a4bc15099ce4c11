"""Which arrays differ between the devices of a mesh, inside ``jax.shard_map``, where JAX keeps account of it.

Results of a foreign call count as the same on all devices unless they are declared to vary. And the rule of a
``custom_vjp`` has to return cotangents that vary as its operands do: of one that does not, the sum over the devices.
JAX inserts that sum if the operand is declared to vary before the call.
"""

from __future__ import annotations

from typing import Any

import jax


def axes_of(*arrays: Any) -> tuple[Any, ...]:
    """The axes of the mesh over which any of these varies; none outside ``shard_map``, or if JAX keeps no account."""
    return tuple(sorted(frozenset[Any]().union(*map(_axes, arrays)), key=str))


def _axes(array: Any) -> frozenset[Any]:
    if not isinstance(array, jax.core.Tracer):
        return frozenset()
    aval = array.aval
    declared = getattr(aval, "manual_axis_type", None)  # since jax 0.10
    axes: frozenset[Any] = getattr(aval, "vma", frozenset()) if declared is None else declared.varying
    return axes


def vary(axes: tuple[Any, ...], array: Any) -> Any:
    """`array`, declared to vary over these axes, too."""
    missing = tuple(axis for axis in axes if axis not in _axes(array))
    if not missing:
        return array
    return jax.lax.pcast(array, missing, to="varying") if hasattr(jax.lax, "pcast") else jax.lax.pvary(array, missing)
