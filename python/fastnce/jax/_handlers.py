"""Calls of the handlers in csrc/bindings/jax/jax_*.cpp."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from fastnce._request import OPTIONS
from fastnce.jax._arguments import Operands, compute_dtype, id_dtype
from fastnce.jax._platform import on_cpu_only
from fastnce.jax._varying import axes_of, vary

Options: TypeAlias = tuple[tuple[str, Any], ...]
"""Names and values of what is fixed when a call is traced: the handler's attributes."""

_ATTRIBUTES = {
    field.name: {"integer": np.int64, "number": np.float64, "flag": np.bool_, "choice": str}[field.kind]
    for field in OPTIONS
} | {"all_classes": np.bool_}


def options_of(fields: dict[str, Any]) -> Options:
    """The options of a request. Sizes that operands have are none; what is ``None`` has the handler's default."""
    given = ((name, fields.get(name)) for name in _ATTRIBUTES if name not in ("num_sampled", "num_true"))
    return tuple((name, value) for name, value in given if value is not None)


def is_over_all_classes(options: Options) -> bool:
    return ("all_classes", True) in options


class Results(NamedTuple):
    """Those not asked for are empty."""

    loss: Any
    inputs: Any
    ids: Any
    weights: Any
    biases: Any


def run(
    options: Options,
    operands: Operands,
    grad_loss: Any = None,
    *,
    loss: bool = False,
    inputs: bool = False,
    weights: bool = False,
    biases: bool = False,
) -> Results:
    """The loss and gradients, as far as asked for. Those of tables are rows, one for each label and sample; of a loss
    over all classes, one for each class, without ids."""
    x, all_classes = operands.inputs, is_over_all_classes(options)
    batch, dim = x.shape
    entries = operands.weights.shape[0] if all_classes else operands.labels.size + operands.sampled.size
    results = _call(
        "fastnce_sampled_loss",
        (
            jax.ShapeDtypeStruct((batch if loss else 0,), compute_dtype(x)),
            jax.ShapeDtypeStruct((batch if inputs else 0, dim), x.dtype),
            _id_words(entries if (weights or biases) and not all_classes else 0),
            jax.ShapeDtypeStruct((entries if weights else 0, dim), operands.weights.dtype),
            jax.ShapeDtypeStruct((entries if biases and operands.biases.size else 0,), operands.biases.dtype),
        ),
        options,
        _on_cpu_only(operands) if all_classes else operands,
        grad_loss,
    )
    loss_, grad_inputs, words, *tables = results
    return Results(loss_, grad_inputs, _ids(words), *tables)


def top_k(options: Options, operands: Operands, k: int) -> tuple[Any, Any]:
    """Scores and ids ``[B, k]``."""
    x = operands.inputs
    batch = x.shape[0]
    results = (jax.ShapeDtypeStruct((batch, k), compute_dtype(x)), _id_words(batch * k))
    scores, words = _call("fastnce_top_k", results, options, _on_cpu_only(operands))
    return scores, _ids(words).reshape(batch, k)


def rank_of_labels(options: Options, operands: Operands) -> Any:
    """Ranks in the shape of the labels, float64 if JAX has it."""
    dtype = jnp.float64 if jax.config.jax_enable_x64 else jnp.float32
    result = jax.ShapeDtypeStruct(operands.labels.shape, dtype)
    return _call("fastnce_rank_of_labels", result, options, _on_cpu_only(operands))


def _on_cpu_only(operands: Operands) -> Operands:
    what = "all classes are gone through"
    return operands._replace(labels=on_cpu_only(operands.labels, beside=operands.inputs, what=what))


def _call(name: str, results: Any, options: Options, operands: Operands, grad_loss: Any = None) -> Any:
    """Of a handler that takes a request."""
    upstream = jnp.zeros(0, compute_dtype(operands.inputs)) if grad_loss is None else grad_loss
    return _foreign(name, results)(*operands, upstream, **{name: _ATTRIBUTES[name](value) for name, value in options})


def _foreign(name: str, results: Any, aliases: dict[int, int] | None = None) -> Callable[..., Any]:
    """A foreign call whose results vary between devices as its operands do."""
    call = jax.ffi.ffi_call(name, results, vmap_method="sequential", input_output_aliases=aliases)

    def varying(*operands: Any, **attributes: Any) -> Any:
        axes = axes_of(*operands)
        return jax.tree.map(lambda result: vary(axes, result), call(*operands, **attributes))

    return varying


def draw(
    words: Any, classes: Any, num_sampled: int, unique: bool, range_max: int, classes_name: str, range_name: str
) -> tuple[Any, Any, Any]:
    """Sampled classes [S], true counts like classes and sampled counts [S], float32. The names are for errors."""
    call = _foreign(
        "fastnce_log_uniform",
        (
            _id_words(num_sampled),
            jax.ShapeDtypeStruct(classes.shape, jnp.float32),
            jax.ShapeDtypeStruct((num_sampled,), jnp.float32),
        ),
    )
    sampled, true_count, sampled_count = call(
        words,
        classes,
        range_max=np.int64(range_max),
        unique=np.bool_(unique),
        classes_name=classes_name,
        range_name=range_name,
    )
    return _ids(sampled), true_count, sampled_count


def replace_rows(table: Any, ids: Any, rows: Any) -> Any:
    """`table` with the rows `ids`, ascending, replaced; of rows with the same id the first counts."""

    def by_handler(table: Any, ids: Any, rows: Any) -> Any:
        result = jax.ShapeDtypeStruct(table.shape, table.dtype)
        return _foreign("fastnce_set_rows", result, aliases={0: 0})(table, ids, rows)

    def by_scatter(table: Any, ids: Any, rows: Any) -> Any:
        place = jnp.arange(ids.size)
        first = jax.lax.cummax(jnp.where(ids != jnp.roll(ids, 1), place, 0))  # of those with the same id
        return table.at[ids].set(rows[first], indices_are_sorted=True)

    if not ids.size:
        return table
    # XLA's scatter on the CPU would convert a whole bfloat16 table to float32 and back.
    return jax.lax.platform_dependent(table, ids, rows, cpu=by_handler, default=by_scatter)


def update_rows(
    kind: str,
    numbers: dict[str, float],
    rounding_seed: int | None,
    ids: Any,
    rate: Any,
    step: Any,
    tables: list[tuple[Any, list[Any]]],
) -> list[list[Any]]:
    """A step of an optimizer: for each of weights and, if there are any, biases, its gradients, of the rows `ids`, and
    the table followed by its states. Returns these as they are afterwards."""
    operands, results = [ids, rate, step], list[Any]()
    aliases: dict[int, int] = {}
    for gradients, (table, *states) in tables:
        first = len(operands)
        operands += [table, gradients, *states]
        for place in (first, *range(first + 2, len(operands))):
            aliases[place] = len(results)
            results.append(jax.ShapeDtypeStruct(operands[place].shape, operands[place].dtype))
    attributes: dict[str, Any] = {name: np.float64(value) for name, value in numbers.items()}
    if rounding_seed is not None:
        attributes["rounding_seed"] = np.uint64(rounding_seed).astype(np.int64)
    new = _foreign("fastnce_update_rows", tuple(results), aliases)(*operands, kind=kind, **attributes)
    each = len(new) // len(tables)
    return [list(new[i : i + each]) for i in range(0, len(new), each)]


def _id_words(count: int) -> Any:
    """Room for 64-bit ids, which JAX may know as pairs of 32-bit words only."""
    dtype = id_dtype()
    return jax.ShapeDtypeStruct((count,) if dtype == jnp.int64 else (count, 2), dtype)


def _ids(words: Any) -> Any:
    return words if words.ndim == 1 else words[:, 0]
