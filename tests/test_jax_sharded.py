"""fastnce.jax.distributed: tables whose rows are spread over the devices of a mesh. A process with four virtual devices
runs what jax_sharded_checks.py lists; what needs one device is here."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

import jax_sharded_checks
from jax_arrays import jax, jnp
from jax_meshes import HAS_VMA, P, mapped, mesh_of, sharded

V, D, S, B = 7, 3, 2, 4
FUNCTIONS = {
    "nce": sharded.nce_loss,
    "nce rows": sharded.nce_value_and_rows,
    "softmax": sharded.sampled_softmax_loss,
    "softmax rows": sharded.sampled_softmax_value_and_rows,
}


@pytest.fixture(scope="module")
def failures():
    """How each check failed on four virtual devices. Without LLVM's optimisations programs compile in half the time."""
    flags = "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"
    command = [sys.executable, jax_sharded_checks.__file__]
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    finished = subprocess.run(command, capture_output=True, text=True, timeout=500, env=environment)
    assert finished.returncode == 0, finished.stderr
    return dict(map(json.loads, finished.stdout.splitlines()))


@pytest.mark.parametrize("check", jax_sharded_checks.CHECKS)
def test_devices_together(failures, check):
    assert not failures[check], failures[check]


@pytest.mark.parametrize("shape", [(10,), (8, 2), (3, 2, 2), (0, 3)])
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_rows_of_a_device_are_every_pth_class_and_come_back_into_natural_order(shape, size):
    table = np.arange(1, 1 + np.prod(shape)).reshape(shape)
    spread = sharded.shard_rows(table, size)
    assert spread.shape[0] == size * -(-shape[0] // size)
    for device, rows in enumerate(np.split(np.asarray(spread), size)):
        own = table[device::size]
        np.testing.assert_array_equal(rows[: len(own)], own)
        assert not rows[len(own) :].any()
    np.testing.assert_array_equal(sharded.natural_rows(spread, size, shape[0]), table)


def test_tables_that_do_not_fit_the_devices_are_refused():
    with pytest.raises(
        ValueError, match=r"table has shape \[7, 2\]: expected \[8, \.\.\.\], 2 rows of num_classes = 7"
    ):
        sharded.natural_rows(np.zeros((7, 2)), 4, 7)
    with pytest.raises(ValueError, match=r"table has shape \[\]: expected \[V, \.\.\.\]"):
        sharded.shard_rows(np.zeros(()), 4)
    for function in (sharded.shard_rows, functools.partial(sharded.natural_rows, num_classes=7)):
        with pytest.raises(ValueError, match="size = 0: expected at least 1"):
            function(np.zeros((7, 2)), 0)


ARRAYS = {
    "weights": jnp.zeros((V, D)),
    "biases": jnp.zeros(V),
    "labels": jnp.zeros(B, int),
    "inputs": jnp.zeros((B, D)),
    "key": jax.random.key(1),
}
STATIC = {"num_sampled": S, "num_classes": V, "axis_name": "rows"}


def traced(function="nce", of_key=None, **changes):
    """Shapes of the results of a call on a mesh of one device."""
    arguments = {**ARRAYS, **STATIC, **changes}
    given = {name: arguments.pop(name) for name in ("sampled_values", *ARRAYS) if arguments.get(name) is not None}
    specs = dict.fromkeys(given, P("rows")) | {"key": of_key or P(), "sampled_values": P()}
    specs = {name: specs[name] for name in given}

    def loss(given):
        return FUNCTIONS[function](**given, **arguments)

    return jax.eval_shape(mapped(loss, mesh=mesh_of(1), in_specs=(specs,), out_specs=P("rows")), given)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"axis_name": "columns"}, "axis_name = 'columns': expected an axis of the mesh of the jax.shard_map around"),
        ({"axis_name": ("rows", "columns")}, "axis_name = ('rows', 'columns'): expected an axis of the mesh"),
        (
            {"weights": jnp.zeros((V + 1, D))},
            "weights has shape [8, 3]: expected [7, 3], a row for each class that one of 1 devices holds of "
            "num_classes = 7; shard_rows lays them out",
        ),
        ({"weights": jnp.zeros((V, D + 1))}, "weights has shape [7, 4]: expected [7, 3], a row"),
        ({"biases": jnp.zeros(V - 1)}, "biases has shape [6]: expected [7], a row for each class"),
        ({"labels": jnp.zeros((B, 2), int)}, "labels has shape [4, 2]"),
        ({"num_sampled": V + 1}, "num_sampled = 8"),
        ({"key": None}, "key, sampled_values: expected just one of them, got neither"),
        (
            {"key": None, "sampled_values": (jnp.zeros((2, S), int), jnp.ones((B, 1)), jnp.ones((2, S)))},
            "sampled_candidates has shape [2, 2]: expected [S], one group for all devices",
        ),
    ],
)
def test_what_is_known_when_traced_is_refused(function, changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        traced(function, **changes)


def test_a_key_for_each_device_is_refused():
    if not HAS_VMA:
        pytest.skip("JAX keeps account of what varies since 0.6.1")
    with pytest.raises(ValueError, match="key varies over the axis 'rows' of the mesh: expected one key for all its"):
        traced(key=jnp.zeros(2, jnp.uint32), of_key=P("rows"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_classes": "7"}, "num_classes is a str: expected an integer"),
        ({"labels": jnp.zeros(B)}, "labels has dtype float32"),
        ({"exclude": [1]}, "exclude is a list: expected a fastnce.Ragged"),
    ],
)
def test_wrong_kinds_are_refused(changes, message):
    with pytest.raises(TypeError, match=message):
        traced(**changes)


def test_outside_of_shard_map_it_says_so():
    with pytest.raises(ValueError, match=r"axis_name = 'rows': expected an axis of the mesh of the jax\.shard_map"):
        sharded.nce_loss(**ARRAYS, **STATIC)
