"""Calls of the handlers in csrc/bindings/jax_*.cpp."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fastnce.jax._arguments import Operands, id_dtype


class Options(NamedTuple):
    """What is fixed when a call is traced."""

    num_classes: int
    remove_accidental_hits: bool
    precision: str
    """Empty: the setting of :func:`fastnce.set_precision` when the call runs."""


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
    rows: bool = False,
) -> Results:
    """The loss, the gradient of inputs, and those of rows, ``B * T + S`` of them, as far as asked for."""
    weights, biases, labels, x, sampled, true_count, _ = operands
    batch, dim = x.shape
    entries = labels.size + sampled.size if rows else 0
    dtype = true_count.dtype  # the compute dtype
    call = jax.ffi.ffi_call(
        "fastnce_nce_loss",
        (
            jax.ShapeDtypeStruct((batch if loss else 0,), dtype),
            jax.ShapeDtypeStruct((batch if inputs else 0, dim), x.dtype),
            _id_words(entries),
            jax.ShapeDtypeStruct((entries, dim), weights.dtype),
            jax.ShapeDtypeStruct((entries,), biases.dtype),
        ),
        vmap_method="sequential",
    )
    results = Results(
        *call(
            *operands,
            jnp.zeros(0, dtype) if grad_loss is None else grad_loss,
            num_classes=np.int64(options.num_classes),
            remove_accidental_hits=np.bool_(options.remove_accidental_hits),
            precision=options.precision,
        )
    )
    return results._replace(ids=_ids(results.ids))


def draw(
    words: Any, classes: Any, num_sampled: int, unique: bool, range_max: int, classes_name: str, range_name: str
) -> tuple[Any, Any, Any]:
    """Sampled classes [S], true counts [B, T] and sampled counts [S], float32. The names are for errors."""
    call = jax.ffi.ffi_call(
        "fastnce_log_uniform",
        (
            _id_words(num_sampled),
            jax.ShapeDtypeStruct(classes.shape, jnp.float32),
            jax.ShapeDtypeStruct((num_sampled,), jnp.float32),
        ),
        vmap_method="sequential",
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
        call = jax.ffi.ffi_call(
            "fastnce_set_rows",
            jax.ShapeDtypeStruct(table.shape, table.dtype),
            vmap_method="sequential",
            input_output_aliases={0: 0},
        )
        return call(table, ids, rows)

    def by_scatter(table: Any, ids: Any, rows: Any) -> Any:
        return table.at[ids].set(rows[jnp.searchsorted(ids, ids)], indices_are_sorted=True)

    if not ids.size:
        return table
    # XLA's scatter on the CPU would convert a whole bfloat16 table to float32 and back.
    return jax.lax.platform_dependent(table, ids, rows, cpu=by_handler, default=by_scatter)


def _id_words(count: int) -> Any:
    """Room for 64-bit ids, which JAX may know as pairs of 32-bit words only."""
    dtype = id_dtype()
    return jax.ShapeDtypeStruct((count,) if dtype == jnp.int64 else (count, 2), dtype)


def _ids(words: Any) -> Any:
    return words if words.ndim == 1 else words[:, 0]
