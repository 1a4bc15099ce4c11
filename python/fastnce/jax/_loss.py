"""Any loss as a differentiable function, and with sparse gradients in one pass."""

from __future__ import annotations

import math
import operator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fastnce._errors import is_a
from fastnce._request import ARRAYS, OPTIONS, split_lists
from fastnce._types import RowGrads
from fastnce.jax import _arguments, _sampling
from fastnce.jax._arguments import Operands, compute_dtype
from fastnce.jax._handlers import Options, is_over_all_classes, options_of, replace_rows, run
from fastnce.jax._varying import axes_of, vary

_DEFAULTS: dict[str, Any] = {
    **dict.fromkeys(ARRAYS),
    **{field.name: field.default for field in OPTIONS},
    "all_classes": False,  # in place of sampled ones: gradients of tables are dense
    "shards": 1,  # devices that hold as many rows of the tables as this one
}


def request(**given: Any) -> dict[str, Any]:
    """A request of what is given; what is not has its default. Sizes that are given are numbers."""
    for name in ("num_sampled", "num_classes", "num_true"):
        if name in given and given[name] is None:
            raise TypeError(f"{name} {is_a(None)}: expected an integer")
    return {**_DEFAULTS, **given}


def request_over_all(**given: Any) -> dict[str, Any]:
    """The same of a request that goes over all classes; T is that of the labels."""
    no_samples = (np.zeros(0, np.int32), None, None)
    return {**_DEFAULTS, "all_classes": True, "sampled_values": no_samples, "num_true": None, **given}


def value(fields: dict[str, Any], key: Any = None) -> Any:
    """The losses, ``[...]``, differentiable in tables and inputs."""
    options, operands, _ = prepare(fields, key)
    return loss_of(options, operands).reshape(jnp.shape(fields["inputs"])[:-1])


def value_and_rows(fields: dict[str, Any], key: Any = None) -> tuple[Any, Any, RowGrads]:
    """The losses, the gradient of inputs, and those of tables as rows."""
    options, operands, upstream = prepare(fields, key)
    results = run(options, operands, upstream, loss=True, inputs=True, weights=True, biases=True)
    shape = jnp.shape(fields["inputs"])
    biases = None if fields["biases"] is None else results.biases
    return (
        results.loss.reshape(shape[:-1]),
        results.inputs.reshape(shape),
        RowGrads(results.ids, results.weights, biases),
    )


class Checked(NamedTuple):
    """A request that was checked, with labels and inputs in the shapes that the handler takes."""

    fields: dict[str, Any]
    batch_shape: tuple[int, ...]
    """The axes of examples that the caller has."""
    source: Any
    """A sampler or a callable in place of samples."""
    words: Any
    """Of the key, or ``None``."""


def prepare(fields: dict[str, Any], key: Any = None) -> tuple[Options, Operands, Any]:
    """Options, operands and upstream factors for the handler, from a request that is checked first."""
    call = checked(fields, key)
    return options_of(call.fields), operands_of(call), upstream_of(call)


def checked(fields: dict[str, Any], key: Any) -> Checked:
    """A request that may be computed."""
    fields, source = _sampling.split(fields)
    split_lists(fields)
    _sampling.require_key(source, fields["sampled_values"], key)
    words = None if key is None else _arguments.key_words(key)
    tables = [name for name in ("weights", "biases", "inputs") if fields[name] is not None]
    for name in tables:
        fields[name] = _arguments.table(fields[name], name)
    # How many classes a sampler draws, and whether they are distinct, is known when it has drawn.
    _arguments.check_loss(fields if source is None else {**fields, "num_sampled": 1})
    _arguments.require_one_device(**{name: fields[name] for name in (*tables, "labels")}, key=words)
    for name in tables:
        fields[name] = jnp.asarray(fields[name])
    weights, inputs = fields["weights"], fields["inputs"]
    batch_shape = inputs.shape[:-1]
    batch = math.prod(batch_shape)
    fields["num_classes"] = weights.shape[0] if fields["num_classes"] is None else operator.index(fields["num_classes"])
    fields["inputs"] = inputs.reshape(batch, inputs.shape[-1]) if inputs.ndim > 2 else inputs
    if fields["label_offsets"] is None:
        shape = batch, _num_true(fields, len(batch_shape))
        labels, padding = _arguments.labels_and_padding(fields["labels"], fields["padding"], shape)
    else:
        labels, padding = _arguments.list_values(fields["labels"], "labels.values", fields["padding"])
        fields["label_offsets"] = _list_values(fields["label_offsets"], "labels.offsets")
    fields["labels"], fields["padding"] = labels, padding
    return Checked(fields, batch_shape, source, words)


def operands_of(call: Checked) -> Operands:
    """What the handler takes; draws samples where none are given."""
    fields, batch_shape = call.fields, call.batch_shape
    weights, labels = fields["weights"], fields["labels"]
    return Operands(
        weights,
        jnp.zeros(0, weights.dtype) if fields["biases"] is None else fields["biases"],
        labels,
        fields["inputs"],
        *_samples(call),
        _per_example(fields["positive_weight"], fields, batch_shape),
        _per_example(fields["negative_weight"], fields, batch_shape),
        _list_values(fields["label_offsets"], "labels.offsets"),
        _per_label(fields["label_weights"], labels, batch_shape, compute_dtype(fields["inputs"])),
        _list_values(fields["exclude"], "exclude.values"),
        _list_values(fields["exclude_offsets"], "exclude.offsets"),
        _list_values(fields["class_keys"], "item_ids"),
    )


def upstream_of(call: Checked) -> Any:
    """``[B]`` upstream factors; nothing for 1."""
    return _per_example(call.fields["grad_loss"], call.fields, call.batch_shape)


def _num_true(fields: dict[str, Any], batch_axes: int) -> int:
    if fields["num_true"] is not None:
        return operator.index(fields["num_true"])
    shape = jnp.shape(fields["labels"])
    return shape[-1] if len(shape) > batch_axes else 1


def _samples(call: Checked) -> tuple[Any, Any, Any]:
    """Sampled classes and their expected counts, given or drawn."""
    fields, batch_shape, source, words = call
    dtype, labels, samples = compute_dtype(fields["inputs"]), fields["labels"], fields["sampled_values"]
    if samples is None:
        samples = _sampling.draw_for(fields, source, labels, words)
        batch_shape = labels.shape[:1]  # theirs
    sampled, true_count, sampled_count = samples
    sampled = _arguments.ids(sampled, jnp.shape(sampled), "sampled_candidates")
    if true_count is None:
        return sampled, jnp.zeros(0, dtype), jnp.zeros(0, dtype)
    true_count = _per_label(true_count, labels, batch_shape, dtype)
    return sampled, true_count, jnp.broadcast_to(jnp.asarray(sampled_count, dtype), sampled.shape)


def _per_label(values: Any, labels: Any, batch_shape: tuple[int, ...], dtype: Any) -> Any:
    """A number for each label, as labels ``[B, T]`` or ``[n]`` are; nothing for none."""
    if values is None:
        return jnp.zeros(0, dtype)
    values = jnp.asarray(values, dtype)
    if labels.ndim == 1:
        return jnp.broadcast_to(values, labels.shape)
    several = len(batch_shape) > 1
    if values.shape == batch_shape if several else values.ndim == 1 and values.size != 1:
        values = values[..., None]  # one for each example
    return jnp.broadcast_to(values, (*batch_shape, labels.shape[1])).reshape(labels.shape)


def _list_values(array: Any, name: str) -> Any:
    """Integers of any size; nothing for none."""
    return jnp.zeros(0, jnp.int32) if array is None else _arguments.list_values(array, name)[0]


def _per_example(factor: Any, fields: dict[str, Any], batch_shape: tuple[int, ...]) -> Any:
    """A number or ``[...]`` factors, as ``[B]``; nothing for 1."""
    dtype = compute_dtype(fields["inputs"])
    if factor is None or (isinstance(factor, int | float) and factor == 1):
        return jnp.zeros(0, dtype)
    return jnp.broadcast_to(jnp.asarray(factor, dtype), batch_shape).reshape(-1)


def loss_of(options: Options, operands: Operands) -> Any:
    """``[B]``, differentiable in tables and inputs."""
    axes = axes_of(*operands)
    return _loss(options, *(vary(axes, operand) for operand in operands))


def _compute_loss(options: Options, *operands: Any) -> Any:
    return run(options, Operands(*operands), loss=True).loss


def _forward(options: Options, *operands: Any) -> Any:
    """The loss, and as residuals the operands and which gradients are wanted, which pytrees hold as () or None."""
    values = Operands(*(operand.value for operand in operands))
    wanted = Operands(*(() if operand.perturbed else None for operand in operands))
    return _compute_loss(options, *values), (values, (wanted.weights, wanted.biases, wanted.inputs))


def _backward(options: Options, residuals: Any, grad_loss: Any) -> Any:
    """The cotangents of all operands: dense ones of the tables, zeros of ids and counts."""
    operands, wanted = residuals
    for_weights, for_biases, for_inputs = (flag is not None for flag in wanted)
    grads = run(options, operands, grad_loss, inputs=for_inputs, weights=for_weights, biases=for_biases)

    def dense(table: Any, rows: Any) -> Any:
        return rows if is_over_all_classes(options) else replace_rows(jnp.zeros_like(table), grads.ids, rows)

    cotangents = dict.fromkeys(Operands._fields)
    if for_weights:
        cotangents["weights"] = dense(operands.weights, grads.weights)
    if for_biases:
        cotangents["biases"] = dense(operands.biases, grads.biases)
    if for_inputs:
        cotangents["inputs"] = grads.inputs
    return tuple(cotangents.values())


_loss = jax.custom_vjp(_compute_loss, nondiff_argnums=(0,))
_loss.defvjp(_forward, _backward, symbolic_zeros=True)
