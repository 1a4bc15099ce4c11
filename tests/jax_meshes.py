"""Meshes of the first devices, and ``shard_map`` of every version of JAX."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from jax_arrays import jax

sharded = importlib.import_module("fastnce.jax.distributed")  # after jax_arrays, which skips modules without JAX
P = jax.sharding.PartitionSpec
HAS_VMA = hasattr(jax, "shard_map")  # since jax 0.6.1


def mesh_of(*sizes: int) -> Any:
    """With the axis "rows", or the axes "data" and "rows"."""
    devices = np.array(jax.devices()[: int(np.prod(sizes))]).reshape(sizes)
    return jax.sharding.Mesh(devices, ("data", "rows")[-len(sizes) :])


def mapped(function: Callable[..., Any], *, mesh: Any, in_specs: Any, out_specs: Any, checked: bool = True) -> Any:
    """``checked``: whether JAX keeps account of what varies over the axes, as it does by default."""
    if HAS_VMA:
        return jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=checked)
    from jax.experimental.shard_map import shard_map  # which has no rule for foreign calls

    return shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_rep=False)
