"""Softmax whose negatives are the items of the other examples in the batch."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fastnce._types import Precision, Ragged
from fastnce.jax import _arguments
from fastnce.jax._loss import request, value


def in_batch_softmax_loss(
    inputs: Any,
    items: Any,
    item_ids: Any = None,
    *,
    log_q: Any = None,
    extra: tuple[Any, Any, Any] | None = None,
    exclude: Ragged | None = None,
    temperature: float = 1.0,
    precision: Precision | None = None,
) -> Any:
    """:func:`fastnce.in_batch_softmax_loss` for ``jit``, ``grad``, ``value_and_grad``, ``vmap`` and ``scan``.

    Differentiable once, in reverse mode, with respect to ``inputs``, ``items`` and the items of ``extra``; ids and
    ``log_q`` are constants.

    Args:
        inputs: ``[B, D]`` embeddings of the examples.
        items: ``[B, D]`` embeddings of their items: item i is the target of example i.
        item_ids: ``[B]`` integers; other items with the id of an example's own are removed. ``None``: all differ.
        log_q: ``[B]`` logarithms of how often each item is expected in the batch. ``None``: no correction.
        extra: ``(items [N, D], ids [N], log_q [N])``, negatives of all examples.
        exclude: A :class:`fastnce.Ragged` with a list of item ids for each example. Needs ``item_ids``.
        temperature: Divides the products: a number, static. One that is learned: ``inputs / temperature``.
        precision: As in :func:`nce_loss`.

    Returns:
        ``[B]`` losses, float32, or float64 for float64 arrays.

    Raises:
        ValueError: When traced: shapes that do not match, a temperature that is not positive.
        TypeError: When traced: unsupported or mixed dtypes.
        jax.errors.JaxRuntimeError: When run on the CPU: a ``log_q`` that is not finite, lists whose offsets are none.
    """
    inputs, items = _arguments.table(inputs, "inputs"), _arguments.table(items, "items")
    if len(jnp.shape(items)) != 2 or jnp.shape(items) != jnp.shape(inputs):
        shapes = list(jnp.shape(items)), list(jnp.shape(inputs))
        raise ValueError(f"items has shape {shapes[0]}: expected [B, D] like inputs, which has {shapes[1]}")
    size, dim = jnp.shape(items)
    more, more_ids, more_log_q = (None, None, None) if extra is None else extra
    if more is not None:
        more = _arguments.table(more, "items of extra")
        if len(jnp.shape(more)) != 2 or jnp.shape(more)[1] != dim:
            raise ValueError(f"items of extra has shape {list(jnp.shape(more))}: expected [N, D] with D = {dim}")
        if more.dtype != items.dtype:
            raise TypeError(f"items of extra has dtype {more.dtype}: expected {items.dtype}, that of items")
        items = jnp.concatenate([items, more])
    count = 0 if more is None else jnp.shape(more)[0]
    ids = _for_all("item_ids", item_ids, size, more_ids, count)
    logs = _for_all("log_q", log_q, size, more_log_q, count)
    if exclude is not None and ids is None:
        raise ValueError("exclude is given but item_ids is None: expected the id of each item")
    if size + count == 0:
        return jnp.sum(jnp.asarray(inputs), axis=-1, dtype=_arguments.compute_dtype(inputs))
    candidates = np.arange(size + count, dtype=np.int32)
    return value(
        request(
            weights=items,
            labels=candidates[:size],
            inputs=inputs,
            num_sampled=size + count,
            num_classes=size + count,
            sampled_values=(candidates, None if logs is None else logs[:size, None], logs),
            log_q=True,
            class_keys=ids,
            exclude=exclude,
            temperature=float(temperature),
            family="softmax",
            true_target="one",
            remove_accidental_hits=True,
            precision=precision,
        )
    )


def _ids(array: Any, name: str) -> Any:
    """Integers that tell items apart, none of which may be cut short."""
    if not isinstance(array, jax.Array):
        array = np.asarray(array)
        limits = np.iinfo(_arguments.id_dtype())
        if array.dtype.kind in "iu" and array.size and not limits.min <= array.min() <= array.max() <= limits.max:
            raise ValueError(f"{name}: expected integers of {limits.bits} bits; set jax_enable_x64 for more than 32")
    ids, _ = _arguments.list_values(array, name)
    return ids


def _for_all(name: str, own: Any, size: int, more: Any, count: int) -> Any:
    """Ids or log Q of the items of the batch and of the extra ones; ``None`` for none."""
    if own is None and more is None:
        return None
    if own is None or (more is None and count > 0):
        given, missing = (f"{name} of extra", name) if own is None else (name, f"{name} of extra")
        raise ValueError(f"{given} is given but {missing} is None: expected both or neither")
    parts = [(name, own, size)] if more is None else [(name, own, size), (f"{name} of extra", more, count)]
    for text, part, expected in parts:
        if jnp.shape(part) != (expected,):
            raise ValueError(f"{text} has shape {list(jnp.shape(part))}: expected one for each item, [{expected}]")
    if name == "item_ids":
        return jnp.concatenate([_ids(part, text) for text, part, _ in parts])
    return jnp.concatenate([jnp.asarray(part) for _, part, _ in parts])
