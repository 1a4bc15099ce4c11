"""A loss over a table that is spread over devices: that over the table of the rows that travelled here.

That table has a row for each sample and one for each label; classes are told apart by their ids (``class_keys``), so
that hits are found. No device may raise an error alone: the others would wait for it in a collective until XLA aborts
the process. What is not known when a call is traced makes losses NaN instead.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fastnce._seed import integer
from fastnce._types import RowGrads
from fastnce.jax import _arguments
from fastnce.jax._arguments import Operands, compute_dtype, fits, id_dtype
from fastnce.jax._handlers import Options, options_of, replace_rows, run
from fastnce.jax._loss import Checked, checked, loss_of, operands_of, upstream_of
from fastnce.jax._varying import axes_of, vary
from fastnce.jax.distributed._layout import Axis, axis_of
from fastnce.jax.distributed._rows import OwnRows, Travel, fetched


class _Call(NamedTuple):
    axis: Axis
    travel: Travel
    options: Options
    operands: Operands
    """Of a loss over the rows that travelled here."""
    refused: Any
    """``[B]``: examples whose loss is NaN."""
    upstream: Any
    """``[B]``, zero of refused ones."""


def value(fields: dict[str, Any], key: Any, axis_name: Any) -> Any:
    """The losses of this device's examples, differentiable in tables and inputs."""
    call = _prepared(fields, key, axis_name)
    losses = loss_of(call.options, call.operands)
    return jnp.where(call.refused, jnp.nan, losses).reshape(jnp.shape(fields["inputs"])[:-1])


def value_and_rows(fields: dict[str, Any], key: Any, axis_name: Any) -> tuple[Any, Any, RowGrads]:
    """The losses and the gradient of the inputs of this device's examples, and those of its rows."""
    axis, travel, options, operands, refused, upstream = _prepared(fields, key, axis_name)
    results = run(options, operands, upstream, loss=True, inputs=True, weights=True, biases=True)
    tables = fields["weights"], fields["biases"]
    own = OwnRows(axis, travel, tables[0].shape[0])
    found = [(operands.weights, results.weights), (operands.biases, results.biases)]
    grads = [
        None if table is None else replace_rows(jnp.zeros_like(small), results.ids, rows)
        for table, (small, rows) in zip(tables, found, strict=True)
    ]
    sums = jax.tree.map(lambda table, grad: grad.astype(table.dtype), [*tables], own.returned(grads))
    shape = jnp.shape(fields["inputs"])
    return (
        jnp.where(refused, jnp.nan, results.loss).reshape(shape[:-1]),
        results.inputs.reshape(shape),
        RowGrads(own.ids, *sums),
    )


def _prepared(fields: dict[str, Any], key: Any, axis_name: Any) -> _Call:
    axis = axis_of(axis_name)
    _require_same_key(axis, key)
    call = checked(_whole(axis, fields), key)
    classes, refused = _classes(call)
    call.fields["labels"], call.fields["padding"] = classes, -1
    operands, of_samples = _usable(operands_of(call), call.fields["num_classes"])
    refused |= of_samples
    dtype = compute_dtype(operands.inputs)
    travel = Travel.of(axis, operands.sampled, classes.reshape(-1))
    axes = axes_of(operands.weights, operands.biases, operands.inputs, travel.labels)
    tables = [operands.weights, *([] if fields["biases"] is None else [operands.biases])]
    weights, *biases = fetched(axis, dtype, [vary(axes, table) for table in tables], travel)
    num_sampled, num_labels = len(operands.sampled), classes.size
    places = num_sampled + jnp.arange(num_labels, dtype=classes.dtype).reshape(classes.shape)
    operands = operands._replace(
        weights=weights,
        biases=biases[0] if biases else jnp.zeros(0, dtype),
        labels=jnp.where(classes < 0, -1, places),
        sampled=jnp.arange(num_sampled, dtype=operands.sampled.dtype),
        class_keys=jnp.concatenate([operands.sampled, classes.reshape(-1)]),
    )
    options = options_of({**call.fields, "num_classes": num_sampled + num_labels})
    given = upstream_of(call)
    upstream = jnp.where(refused, 0, given if given.size else jnp.ones(refused.shape, dtype))
    return _Call(axis, travel, options, operands, refused, upstream)


def _require_same_key(axis: Axis, key: Any) -> None:
    names = axis.name if isinstance(axis.name, tuple) else (axis.name,)
    differs = [name for name in names if key is not None and name in axes_of(key)]
    if differs:
        raise ValueError(f"key varies over the axis {differs[0]!r} of the mesh: expected one key for all its devices")


def _whole(axis: Axis, fields: dict[str, Any]) -> dict[str, Any]:
    """The request over the whole table, of which each device has as many rows."""
    weights = _arguments.table(fields["weights"], "weights")
    given, shape = fields["num_classes"], jnp.shape(weights)
    num_classes = (shape[0] if shape else 0) * axis.size if given is None else integer(given, "num_classes")
    rows = axis.rows(num_classes)
    for name, dim in (("weights", jnp.shape(fields["inputs"])[-1:]), ("biases", ())):
        table = fields[name]
        if table is not None and jnp.shape(table) != (rows, *dim):
            raise ValueError(
                f"{name} has shape {list(jnp.shape(table))}: expected {[rows, *dim]}, a row for each class that one of "
                f"{axis.size} devices holds of num_classes = {num_classes}; shard_rows lays them out"
            )
    return {**fields, "num_classes": num_classes, "shards": axis.size}


def _classes(call: Checked) -> tuple[Any, Any]:
    """The labels with -1 for what is no class, and which examples ``[B]`` have one that is out of range. Makes offsets
    that are none those of empty lists, of examples that are refused."""
    fields, labels = call.fields, call.fields["labels"].astype(id_dtype())
    is_class = _in_range(labels, fields["num_classes"])
    refused = ~is_class
    padding = fields["padding"]
    if padding is not None and fits(padding, labels.dtype):
        is_padding = labels == padding
        is_class, refused = is_class & ~is_padding, refused & ~is_padding
    if fields["label_offsets"] is None:
        return jnp.where(is_class, labels, -1), refused.any(axis=-1)
    offsets, are_wrong = _usable_offsets(fields["label_offsets"], labels.size)
    fields["label_offsets"] = offsets
    refused = _have_any(refused, offsets) | are_wrong
    return jnp.where(is_class & (jnp.arange(labels.size) < offsets[-1]), labels, -1), refused


def _have_any(flags: Any, offsets: Any) -> Any:
    """Which lists ``[B]`` have any value with a flag, of ``[n]``."""
    batch = offsets.size - 1
    lists = jnp.repeat(jnp.arange(batch), jnp.diff(offsets), total_repeat_length=flags.size)
    is_listed = jnp.arange(flags.size) < offsets[-1]
    return jnp.zeros(batch, bool).at[lists].max(flags & is_listed)


def _usable_offsets(offsets: Any, size: int) -> tuple[Any, Any]:
    """Offsets of lists, those of empty ones in place of what is none; and whether they were replaced."""
    are_offsets = (offsets[0] == 0) & (offsets[1:] >= offsets[:-1]).all() & (offsets[-1] <= size)
    return jnp.where(are_offsets, offsets, 0), ~are_offsets


def _usable(operands: Operands, num_classes: int) -> tuple[Operands, Any]:
    """Operands that no handler refuses, and which examples ``[B]`` are refused in its place."""
    sampled = operands.sampled.astype(id_dtype())
    true_count, sampled_count = operands.true_count, operands.sampled_count
    if sampled.ndim != 1:
        raise ValueError(f"sampled_candidates has shape {list(sampled.shape)}: expected [S], one group for all devices")
    is_class = _in_range(sampled, num_classes)
    refused = jnp.full(operands.inputs.shape[0], ~is_class.all())
    operands = operands._replace(sampled=jnp.where(is_class, sampled, -1))
    if operands.exclude_offsets.size:
        offsets, are_wrong = _usable_offsets(operands.exclude_offsets, operands.exclude.size)
        is_wrong = ~_in_range(operands.exclude, num_classes)
        refused = refused | are_wrong | _have_any(is_wrong, offsets)
        operands = operands._replace(exclude=jnp.where(is_wrong, 0, operands.exclude), exclude_offsets=offsets)
    if true_count.size or sampled_count.size:
        is_count, are_counts = _is_count(true_count) | (operands.labels < 0), _is_count(sampled_count)
        of_labels = ~(is_count.all(axis=-1) if is_count.ndim > 1 else is_count.all())
        refused = refused | of_labels | ~are_counts.all()
        operands = operands._replace(
            true_count=jnp.where(is_count, true_count, 1), sampled_count=jnp.where(are_counts, sampled_count, 1)
        )
    return operands, refused


def _in_range(ids: Any, num_classes: int) -> Any:
    return (ids >= 0) & (ids <= num_classes - 1)  # an int32 may not hold num_classes


def _is_count(values: Any) -> Any:
    return (values > 0) & (values < jnp.inf)
