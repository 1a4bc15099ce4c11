"""What every device checks, one after the other.

    XLA_FLAGS=--xla_force_host_platform_device_count=4 python tests/jax_sharded_checks.py

Writes a line of JSON for each check: its name and how it failed.
"""

from __future__ import annotations

import functools
import json
import re
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np

import fastnce
from jax_arrays import jax, jnp
from jax_meshes import P, mapped, mesh_of, sharded
from jax_sharded_cases import BATCH, CASES, Case, D, Problem, close, run


def check_sizes_of_rows() -> None:
    """As many rows as samples and labels of all devices, but no more than a device has."""

    def rows_of(classes: int) -> int:
        problem = Problem(Case(labels="three", classes=classes))
        static = {"num_sampled": 13, "num_classes": classes, "num_true": 3, "padding": -1}

        def ids(weights: Any, labels: Any, inputs: Any) -> Any:
            arguments = (weights, None, labels, inputs)
            place = {"axis_name": "rows", "key": jax.random.key(1)}
            return sharded.nce_value_and_rows(*arguments, **static, **place)[2].ids

        function = mapped(ids, mesh=mesh_of(4), in_specs=P("rows"), out_specs=P("rows"))
        arrays = sharded.shard_rows(problem.weights, 4), problem.labels, problem.inputs
        return int(jax.eval_shape(function, *arrays).size) // 4

    assert rows_of(61) == 16
    assert rows_of(400) == 13 + 4 * 2 * 3


def check_as_many_classes_as_int32_has() -> None:
    def loss(weights: Any, labels: Any, inputs: Any) -> Any:
        arguments = (weights, None, labels, inputs, 13, 2**31)
        return sharded.nce_value_and_rows(*arguments, axis_name="rows", key=jax.random.key(1))[0]

    function = mapped(loss, mesh=mesh_of(4), in_specs=P("rows"), out_specs=P("rows"))
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((2**31, 2), (8, 2))]
    assert jax.eval_shape(function, shapes[0], jnp.zeros(8, int), shapes[1]).shape == (8,)


def _collectives(jaxpr: Any, found: list[tuple[str, tuple[int, ...]]]) -> list[tuple[str, tuple[int, ...]]]:
    """Names and shapes of floating-point operands, loops once, sorted."""
    for equation in jaxpr.eqns:
        name = re.sub("_invariant$|2$", "", equation.primitive.name)
        if name in ("psum", "all_gather", "all_to_all", "reduce_scatter", "ppermute"):
            found += [(name, v.aval.shape) for v in equation.invars if jnp.issubdtype(v.aval.dtype, jnp.floating)]
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda leaf: hasattr(leaf, "eqns")):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                _collectives(inner, found)
    return sorted(found)


def check_what_travels_is_what_the_page_says() -> None:
    """docs/jax_distributed.md: sampled rows, and n / P + 3 sqrt(n / P) for each other device, of the n labels of each;
    their gradients."""
    problem = Problem(Case(batch=256, classes=1200, labels="one"))

    def step(weights: Any, biases: Any, labels: Any, inputs: Any) -> Any:
        arguments = (weights, biases, labels, inputs, 13, 1200)
        return sharded.nce_value_and_rows(*arguments, axis_name="rows", padding=-1, key=jax.random.key(1))

    function = mapped(step, mesh=mesh_of(4), in_specs=P("rows"), out_specs=P("rows"))
    tables = sharded.shard_rows(problem.weights, 4), sharded.shard_rows(problem.biases, 4)
    found = _collectives(jax.make_jaxpr(function)(*tables, problem.labels, problem.inputs).jaxpr, [])
    rows = 4 * (64 // 4 + 3 * 4)
    once = [("all_to_all", (rows,)), ("all_to_all", (rows, D)), ("psum", (13,)), ("psum", (13, D))]
    assert found == sorted(once * 2), found


def _trained(update: str, devices: int) -> tuple[Any, ...]:
    """Tables after some steps on donated tables; 0 devices: the unsharded functions."""
    problem = Problem(Case(labels="three", padding=None))
    static = {"num_sampled": 13, "num_classes": 61, "num_true": 3}
    zeros = jnp.zeros_like(problem.weights), jnp.zeros_like(problem.biases)
    tables = (problem.weights, problem.biases, zeros)

    def step(weights: Any, biases: Any, sums: Any, labels: Any, inputs: Any, key: Any) -> Any:
        function = sharded.nce_value_and_rows if devices else fastnce.jax.nce_value_and_rows
        place = {"axis_name": "rows"} if devices else {}
        grad_loss = jnp.full(len(inputs), 1 / BATCH)
        *_, rows = function(weights, biases, labels, inputs, **static, **place, key=key, grad_loss=grad_loss)
        if update == "sgd":
            return *fastnce.jax.sgd_rows(weights, biases, rows, 0.5), sums
        return fastnce.jax.adagrad_rows(weights, biases, sums, rows, 0.5)

    if devices:
        table = (P("rows"), P("rows"), (P("rows"), P("rows")))
        step = mapped(step, mesh=mesh_of(devices), in_specs=(*table, P("rows"), P("rows"), P()), out_specs=table)
        tables = jax.tree.map(lambda table: sharded.shard_rows(table, devices), tables)
    step = jax.jit(step, donate_argnums=(0, 1, 2))
    for key in jax.random.split(jax.random.key(5), 6):
        tables = step(*tables, problem.labels, problem.inputs, key)
    if devices:
        tables = jax.tree.map(lambda table: sharded.natural_rows(table, devices, 61), tables)
    return tuple(jax.tree.leaves(tables))


def check_training_with_rows_is_that_of_the_whole_table() -> None:
    for update in ("sgd", "adagrad"):
        names = ("weights", "biases", "sums of weights", "sums of biases")
        for name, got, expected in zip(names, _trained(update, 4), _trained(update, 0), strict=True):
            close(f"{update}: {name}", got, expected, "float32")


def _state_specs(state: Any) -> Any:
    """Of an optimizer's state: its rows are spread as those of the tables, the step is the same on all devices."""
    return jax.tree.map(lambda part: P("rows") if part.ndim else P(), state)


def _optimized(optimizer: Any, devices: int, labels: Any, sampled: Any) -> tuple[Any, Any, dict[str, Any]]:
    """Tables and state after steps on these batches, scanned; 0 devices: of the unsharded functions."""
    problem = Problem(Case())
    tables = problem.weights, problem.biases

    def steps(weights: Any, biases: Any, labels: Any, sampled: Any, inputs: Any) -> Any:
        module, place = (sharded, {"axis_name": "rows"}) if devices else (fastnce.jax, {})

        def step(carried: Any, batch: Any) -> Any:
            rows = module.negative_sampling_value_and_rows(*carried[:2], batch[0], inputs, batch[1], **place)[2]
            return optimizer.update_rows(*carried, rows), None

        start = (weights, biases, optimizer.init(weights, biases))
        return jax.lax.scan(step, start, (labels, sampled))[0]

    if devices:
        state = jax.eval_shape(optimizer.init, *tables)
        specs = (P("rows"), P("rows"), _state_specs(state))
        of_batches = (P(None, "rows"), P(), P("rows"))
        steps = mapped(steps, mesh=mesh_of(devices), in_specs=(*specs[:2], *of_batches), out_specs=specs)
        tables = jax.tree.map(lambda table: sharded.shard_rows(table, devices), tables)
    arrays = jax.jit(steps)(*tables, labels, sampled, problem.inputs)
    return jax.tree.map(
        lambda part: sharded.natural_rows(part, devices, 61) if devices and part.ndim else part, tuple(arrays)
    )


def check_optimizers_update_the_rows_of_each_device() -> None:
    rng = np.random.default_rng(1)
    labels, sampled = rng.integers(61, size=(5, BATCH)), rng.integers(61, size=(5, 13))
    for name in ("SGD", "Adagrad", "RowwiseAdagrad", "Adam"):
        optimizer = getattr(fastnce.jax.optim, name)(weight_decay=0.1)
        ours, whole = _optimized(optimizer, 4, labels, sampled), _optimized(optimizer, 0, labels, sampled)
        for path, expected in jax.tree_util.tree_leaves_with_path(whole):
            got = dict(jax.tree_util.tree_leaves_with_path(ours))[path]
            close(f"{name}: {path}", got, expected, "float32")


def check_a_device_without_rows_in_a_step_leaves_its_own_as_they_are() -> None:
    optimizer = fastnce.jax.optim.SGD(0.1, 0.9, weight_decay=0.1)
    labels, sampled = np.arange(1 + BATCH)[None, 1:], np.arange(13)[None]
    once = _optimized(optimizer, 4, labels, sampled)
    of_one = 4 * np.arange(BATCH)[None], 4 * np.arange(13)[None]
    twice = _optimized(optimizer, 4, *(np.concatenate(pair) for pair in zip((labels, sampled), of_one, strict=True)))
    others = np.arange(61) % 4 != 0
    for before, after in zip(jax.tree.leaves(once), jax.tree.leaves(twice), strict=True):
        if before.ndim:
            np.testing.assert_array_equal(before[others], after[others])
            assert not np.array_equal(before, after)


def _two_axes() -> tuple[Problem, dict[str, Any], tuple[Any, Any]]:
    """A problem, its arguments, and the loss and gradients of the whole."""
    problem = Problem(Case(devices=2, labels="three"))
    static = {**problem.static(), "key": jax.random.key(11)}

    def total(weights: Any, biases: Any, inputs: Any) -> Any:
        return fastnce.jax.sampled_softmax_loss(weights, biases, problem.labels, inputs, **static).sum()

    return problem, static, jax.value_and_grad(total, (0, 1, 2))(problem.weights, problem.biases, problem.inputs)


def check_a_table_may_be_replicated_over_another_axis() -> None:
    problem, static, (expected, grads) = _two_axes()
    mesh, both = mesh_of(2, 2), P(("data", "rows"))
    tables = [sharded.shard_rows(table, 2) for table in (problem.weights, problem.biases)]
    for checked in (True, False):

        def losses(weights: Any, biases: Any, labels: Any, inputs: Any) -> Any:
            return sharded.sampled_softmax_loss(weights, biases, labels, inputs, **static, axis_name="rows")

        specs = {"in_specs": (P("rows"), P("rows"), both, both), "out_specs": both}
        spread = mapped(losses, mesh=mesh, checked=checked, **specs)

        def total(weights: Any, biases: Any, inputs: Any, spread: Any = spread) -> Any:
            return spread(weights, biases, problem.labels, inputs).sum()

        value, ours = jax.jit(jax.value_and_grad(total, (0, 1, 2)))(*tables, problem.inputs)
        close("loss", value, expected, "float32")
        for i, (got, wanted) in enumerate(zip(ours, grads, strict=True)):
            close(f"gradient {i}", got if i == 2 else sharded.natural_rows(got, 2, 61), wanted, "float32")

        def dense(weights: Any, biases: Any, labels: Any, inputs: Any) -> Any:
            arguments = (weights, biases, labels, inputs)
            *_, rows = sharded.sampled_softmax_value_and_rows(*arguments, **static, axis_name="rows")
            ids, grads = jax.lax.all_gather((rows.ids, rows.weights), "data", tiled=True)
            return jax.lax.pmean(jnp.zeros_like(weights).at[ids].add(grads), "data")

        spread = mapped(dense, mesh=mesh, checked=checked, in_specs=specs["in_specs"], out_specs=P("rows"))
        got = jax.jit(spread)(*tables, problem.labels, problem.inputs)
        close("rows of all replicas", sharded.natural_rows(got, 2, 61), grads[0], "float32")


def check_a_table_may_be_spread_over_two_axes() -> None:
    problem, static, (expected, grads) = _two_axes()
    both = P(("data", "rows"))

    def losses(weights: Any, biases: Any, labels: Any, inputs: Any) -> Any:
        return sharded.sampled_softmax_loss(weights, biases, labels, inputs, **static, axis_name=("data", "rows"))

    spread = mapped(losses, mesh=mesh_of(2, 2), in_specs=both, out_specs=both)

    def total(weights: Any, biases: Any, inputs: Any) -> Any:
        return spread(weights, biases, problem.labels, inputs).sum()

    tables = [sharded.shard_rows(table, 4) for table in (problem.weights, problem.biases)]
    value, ours = jax.jit(jax.value_and_grad(total, (0, 1, 2)))(*tables, problem.inputs)
    close("loss", value, expected, "float32")
    for i, (got, wanted) in enumerate(zip(ours, grads, strict=True)):
        close(f"gradient {i}", got if i == 2 else sharded.natural_rows(got, 4, 61), wanted, "float32")


def check_grad_inside_shard_map_is_that_of_the_sum_over_all_devices() -> None:
    problem, static, (_, grads) = _two_axes()
    for checked in (True, False):

        def grads_of(weights: Any, biases: Any, labels: Any, inputs: Any) -> Any:
            def own(weights: Any, biases: Any, inputs: Any) -> Any:
                return sharded.sampled_softmax_loss(weights, biases, labels, inputs, **static, axis_name="rows").sum()

            return jax.grad(own, (0, 1, 2))(weights, biases, inputs)

        spread = mapped(grads_of, mesh=mesh_of(4), checked=checked, in_specs=P("rows"), out_specs=P("rows"))
        tables = [sharded.shard_rows(table, 4) for table in (problem.weights, problem.biases)]
        ours = jax.jit(spread)(*tables, problem.labels, problem.inputs)
        for i, (got, wanted) in enumerate(zip(ours, grads, strict=True)):
            close(f"gradient {i}", got if i == 2 else sharded.natural_rows(got, 4, 61), wanted, "float32")


def check_what_is_out_of_range_makes_the_loss_of_its_example_nan_and_its_gradient_zero() -> None:
    """An example that is refused is as one whose labels are all padding, but for its loss."""
    problem = Problem(Case(labels="three", classes=41, sampled=5, padding=None))
    values = fastnce.jax.log_uniform_candidate_sampler(problem.labels, 3, 5, True, 41, key=jax.random.key(1))
    specs = (P("rows"), P("rows"), P("rows"), fastnce.SampledValues(P(), P("rows"), P()))

    @jax.jit
    @functools.partial(mapped, mesh=mesh_of(4), in_specs=specs, out_specs=P("rows"))
    def function(weights: Any, labels: Any, inputs: Any, values: Any) -> Any:
        arguments = (weights, None, labels, inputs, 5, 41, 3, values)
        options = {"axis_name": "rows", "padding": -1}
        loss, dinputs, rows = sharded.sampled_softmax_value_and_rows(*arguments, **options)
        return loss, dinputs, jnp.zeros_like(weights).at[rows.ids].add(rows.weights)

    def results(labels: Any, values: Any) -> tuple[Any, ...]:
        weights = sharded.shard_rows(problem.weights, 4)
        return tuple(map(np.asarray, function(weights, jnp.asarray(labels), problem.inputs, values)))

    padded = problem.labels.copy()
    padded[2] = -1
    expected = results(padded, values)
    for wrong in (-2, 41, 43, 2**31 - 1):
        labels = problem.labels.copy()
        labels[2, 1] = wrong
        loss, *grads = results(labels, values)
        assert np.flatnonzero(np.isnan(loss)).tolist() == [2], (wrong, loss)
        for got, true in zip(grads, expected[1:], strict=True):
            np.testing.assert_array_equal(got, true)
    bad_count = values._replace(true_expected_count=values.true_expected_count.at[2, 1].set(0))
    assert np.flatnonzero(np.isnan(results(problem.labels, bad_count)[0])).tolist() == [2]
    for bad in (
        values._replace(sampled_candidates=values.sampled_candidates.at[3].set(41)),
        values._replace(sampled_expected_count=values.sampled_expected_count.at[3].set(jnp.nan)),
    ):
        loss, *grads = results(problem.labels, bad)
        assert np.isnan(loss).all()
        assert not any(map(np.any, grads))


def check_lists_that_are_none_make_losses_nan() -> None:
    """Offsets that are none: all of their device. A class out of range: of its example."""
    problem = Problem(Case(labels="lists", exclude=True, padding=None))

    @jax.jit
    @functools.partial(mapped, mesh=mesh_of(4), in_specs=P("rows"), out_specs=P("rows"))
    def function(weights: Any, labels: Any, inputs: Any, exclude: Any) -> Any:
        arguments = (weights, None, labels, inputs, 5, 61)
        return sharded.nce_loss(*arguments, axis_name="rows", key=jax.random.key(1), exclude=exclude)

    def results(labels: Any, exclude: Any) -> Any:
        losses = function(sharded.shard_rows(problem.weights, 4), labels, problem.inputs, exclude)
        return np.asarray(losses).reshape(4, -1)

    lists = [jax.tree.map(jnp.asarray, lists) for lists in (problem.labels, problem.exclude)]
    expected = results(*lists)
    assert np.isfinite(expected).all()
    for which in (0, 1):
        # Each device has the offsets of two lists: 3 to 5 are of the second device.
        for place, value in ((3, 1), (4, 9), (5, 99)):
            changed = list(lists)
            changed[which] = lists[which]._replace(offsets=lists[which].offsets.at[place].set(value))
            got = results(*changed)
            assert np.isnan(got[1]).all(), (which, place, got)
            np.testing.assert_array_equal(got[[0, 2, 3]], expected[[0, 2, 3]])
        device = int(np.argmax(np.reshape(lists[which].offsets, (4, -1))[:, 1] > 0))  # its first list has a value
        for wrong in (-1, 61):
            changed = list(lists)
            place = device * (lists[which].values.size // 4)
            changed[which] = lists[which]._replace(values=lists[which].values.at[place].set(wrong))
            got = results(*changed)
            assert np.argwhere(np.isnan(got)).tolist() == [[device, 0]], (which, wrong, got)


CHECKS: dict[str, Callable[[], None]] = {
    **{case.name: functools.partial(run, case) for case in CASES},
    **{name.removeprefix("check_"): check for name, check in list(globals().items()) if name.startswith("check_")},
}


def main() -> None:
    for name, check in CHECKS.items():
        failure = ""
        try:
            check()
        except Exception:
            failure = traceback.format_exc()
        print(json.dumps([name, failure]), flush=True)


if __name__ == "__main__":
    main()
