"""Arguments that may be traced: checked by the core as if they were NumPy arrays, then made what the handlers take."""

from __future__ import annotations

import operator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fastnce import _core
from fastnce._errors import is_a
from fastnce._request import ARRAYS


class Operands(NamedTuple):
    """What the handler takes besides the upstream factors, in its order; what is left out has no elements."""

    weights: Any
    """``[V, D]``."""
    biases: Any
    """``[V]``, or ``[0]`` for none."""
    labels: Any
    """``[B, T]``, or the values ``[n]`` of lists."""
    inputs: Any
    """``[B, D]``."""
    sampled: Any
    """``[S]`` or ``[G, S]``."""
    true_count: Any
    """Of the shape of labels, or ``[0]`` for no log Q."""
    sampled_count: Any
    """Of the shape of sampled, likewise."""
    positive_weight: Any
    """``[B]``, or ``[0]`` for 1."""
    negative_weight: Any
    label_offsets: Any
    """``[B + 1]``, or ``[0]`` where labels are no lists."""
    label_weights: Any
    """Of the shape of labels, or ``[0]`` for 1."""
    exclude: Any
    """Values of lists, ``[m]``."""
    exclude_offsets: Any
    """``[B + 1]``, or ``[0]`` for no exclusions."""
    class_keys: Any
    """``[V]``, or ``[0]`` for the classes themselves."""


_FLOATS = tuple(map(np.dtype, (jnp.float32, jnp.float64, jnp.float16, jnp.bfloat16)))


def id_dtype() -> Any:
    """The widest integers that JAX has."""
    return jnp.int64 if jax.config.jax_enable_x64 else jnp.int32


def compute_dtype(inputs: Any) -> Any:
    return jnp.float64 if inputs.dtype == jnp.float64 else jnp.float32


def require_ids_fit(limit: Any, name: str) -> None:
    if operator.index(limit) > 2**31 and not jax.config.jax_enable_x64:
        raise ValueError(f"{name} = {limit}: expected at most 2**31 without jax_enable_x64, where ids are int32")


def ids(array: Any, shape: tuple[int, ...], name: str) -> Any:
    _refuse_wide(array, name, "int64", "uint64")  # which JAX would cut short
    array = jnp.asarray(array)
    return (array if array.dtype in (jnp.int32, jnp.int64) else array.astype(id_dtype())).reshape(shape)


def fits(value: int, dtype: Any) -> bool:
    """Whether integers of `dtype` include `value`."""
    limits = np.iinfo(dtype)
    return bool(limits.min <= value <= limits.max)


def labels_and_padding(
    array: Any, padding: Any, shape: tuple[int, ...], name: str = "labels"
) -> tuple[Any, int | None]:
    """Labels that are checked, as the handlers take them, and the number that stands for padding among these. JAX may
    have no integers as wide as `padding` is, or as the labels are."""
    if padding is None:
        return ids(array, shape, name), None
    padding = operator.index(padding)
    if isinstance(array, jax.Array):
        labels = ids(array, shape, name)
        if fits(padding, array.dtype):
            return labels, int(np.array(padding, array.dtype).astype(labels.dtype))  # wraps where labels wrap
        wraps = not fits(np.iinfo(array.dtype).max, labels.dtype)
        return labels, None if wraps else padding  # no label equals it; one that wraps might
    if not fits(padding, id_dtype()):
        # All others are classes, as the core has checked: -1 is free.
        array = np.asarray(array).astype(np.int64)
        array, padding = np.where(array == padding, -1, array), -1
    return ids(array, shape, name), padding


def list_values(array: Any, name: str, padding: Any = None) -> tuple[Any, int | None]:
    """Values or offsets of lists, as the handlers take them, and the number that stands for padding among these. What
    JAX's integers cannot hold becomes a negative number, which the handler refuses within a list."""
    if isinstance(array, jax.Array):
        return labels_and_padding(array, padding, (-1,), name)
    array, limits = np.asarray(array), np.iinfo(id_dtype())
    is_padding = False if padding is None else array == operator.index(padding)
    if padding is not None:
        padding = operator.index(padding) if fits(operator.index(padding), id_dtype()) else -1
    held = np.where((array >= limits.min) & (array <= limits.max), array, -2 if padding == -1 else -1)
    return jnp.asarray(np.where(is_padding, 0 if padding is None else padding, held).astype(id_dtype())), padding


def table(array: Any, name: str) -> Any:
    """An array of floating-point numbers as JAX has it: float64 is float32 without ``jax_enable_x64``. What is none is
    left for the core to refuse."""
    if isinstance(array, list | tuple):
        shards = "" if name == "inputs" else "; the NumPy functions take shards"
        raise TypeError(f"{name} {is_a(array)}: expected one array{shards}")
    if getattr(array, "dtype", None) == np.uint16:  # the bits of bfloat16 elsewhere
        raise TypeError(f"{name} has dtype uint16: expected float32, float64, float16 or bfloat16")
    _refuse_wide(array, name, "float64")  # beside which results would have another dtype
    return jnp.asarray(array) if is_plain(array) else array


def _refuse_wide(array: Any, name: str, *dtypes: str) -> None:
    """Refuses JAX's 64-bit numbers where JAX makes none."""
    if isinstance(array, jax.Array) and array.dtype in map(np.dtype, dtypes) and not jax.config.jax_enable_x64:
        raise TypeError(
            f"{name} has dtype {array.dtype}: expected jax_enable_x64 to be set, as it was where it was made"
        )


def require_array(array: Any, name: str) -> None:
    if not isinstance(array, jax.Array | np.ndarray):
        raise TypeError(f"{name} {is_a(array)}: expected an array")


def floating(array: Any, name: str) -> Any:
    """`array` as JAX's, if it is one of floating-point numbers."""
    require_array(array, name)
    _refuse_wide(array, name, "float64")  # beside which results would have another dtype
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"{name} has dtype {array.dtype}: expected floating point")
    return jnp.asarray(array)


def number(value: Any, name: str) -> Any:
    """`value`, if it is a real number or an array of one, which may be traced."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number | np.ndarray | jax.Array):
        raise TypeError(f"{name} {is_a(value)}: expected a number")
    if jnp.ndim(value) != 0:
        raise ValueError(f"{name} has shape {list(jnp.shape(value))}: expected a scalar")
    dtype = getattr(value, "dtype", None)
    if dtype is not None and not (jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)):
        raise TypeError(f"{name} has dtype {dtype}: expected a real number")
    return value


def seen_by_core(array: Any, value: int = 0) -> Any:
    """What the core can check in place of `array`: a JAX array's shape and dtype, filled with `value` in one row that
    stands for all; others whole."""
    if not isinstance(array, jax.Array):
        return array
    if jnp.issubdtype(array.dtype, jax.dtypes.extended):
        return np.empty(array.shape, object)
    row = np.full(array.shape[-1:] if array.ndim > 1 else (), value, array.dtype)
    return np.broadcast_to(row, array.shape)


def _samples_seen_by_core(fields: dict[str, Any]) -> Any:
    """The same of samples and their expected counts. Those of padding need not be positive, nor that of a sample that
    all examples remove: if ids are not known, the core sees ones, and the handler decides."""
    sampled_values = fields["sampled_values"]
    if not isinstance(sampled_values, list | tuple) or len(sampled_values) != 3:
        return sampled_values
    ids, true_count, sampled_count = sampled_values
    labels_are_known = not isinstance(fields["labels"], jax.Array)
    excludes, has_lists = fields["exclude"] is not None, fields["label_offsets"] is not None
    pads = fields["padding"] is not None or has_lists
    removes = excludes or fields["remove_accidental_hits"] is not False
    labels_are_known = labels_are_known and not has_lists
    if pads and not labels_are_known and not isinstance(true_count, jax.Array):
        true_count = _ones_for(true_count)
    ids_are_known = labels_are_known and not excludes and not isinstance(ids, jax.Array)
    if (pads or removes) and not ids_are_known and not isinstance(sampled_count, jax.Array):
        sampled_count = _ones_for(sampled_count)
    return seen_by_core(ids), seen_by_core(true_count, 1), seen_by_core(sampled_count, 1)


def _ones_for(counts: Any) -> Any:
    """Ones of the shape and dtype of real numbers, which may be a list or a scalar; anything else unchanged."""
    if counts is None:
        return None
    try:
        array = np.asarray(counts)
    except Exception:  # such as a ragged list, which the core refuses in its own words
        return counts
    is_real = array.dtype.kind in "iuf" or array.dtype in _FLOATS
    return np.ones_like(array) if is_real and not isinstance(counts, np.ma.MaskedArray) else counts


def is_plain(array: Any) -> bool:
    """Whether `array` is one of NumPy's of floating-point numbers."""
    return type(array) is np.ndarray and array.dtype in _FLOATS


def key_words(key: Any) -> Any:
    """The uint32 words of a key, 2 or 4 of them."""
    expected = "expected a key of jax.random.key, or its words as uint32"
    if isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jax.random.key_data(key)
    if not isinstance(key, jax.Array | np.ndarray):
        raise TypeError(f"key {is_a(key)}: {expected}")
    if key.dtype != np.uint32:
        raise TypeError(f"key has dtype {key.dtype}: {expected}")
    if key.shape not in ((2,), (4,)):
        raise ValueError(f"key has words of shape {list(key.shape)}: expected one key, of 2 or 4 words")
    return jnp.asarray(key)


def require_one_device(**arrays: Any) -> None:
    """Refuses arrays that are committed to other devices than ``inputs``. Of traced ones nothing is known here."""
    devices = {
        name: array.devices()
        for name, array in arrays.items()
        if isinstance(array, jax.Array) and not isinstance(array, jax.core.Tracer) and array.committed
    }
    expected = devices.get("inputs")
    for name, found in devices.items():
        if expected is not None and found != expected:
            raise ValueError(f"{name} is on device {_names(found)}: expected {_names(expected)}, the device of inputs")


def _names(devices: set[Any]) -> str:
    return ", ".join(sorted(f"{device.platform}:{device.id}" for device in devices))


def _none_of(array: Any) -> Any:
    """What belongs to labels, of an empty batch."""
    return array[:0] if isinstance(array, np.ndarray) and array.ndim == 1 else array


def _lists_seen_by_core(values: Any, offsets: Any) -> tuple[Any, Any]:
    """Lists of these shapes and dtypes, of which the last has all values: the handler decides on what they hold."""
    values, offsets = (np.asarray(array) if not isinstance(array, jax.Array) else array for array in (values, offsets))
    are_plain = all(array.dtype.kind in "iu" and array.ndim == 1 for array in (values, offsets))
    if not are_plain or len(offsets) == 0:
        return seen_by_core(values), seen_by_core(offsets)
    values, offsets = np.zeros(len(values), np.int64), np.zeros(len(offsets), np.int64)
    if len(offsets) == 1:  # of no example
        return values[:0], offsets
    offsets[-1] = len(values)
    return values, offsets


def check_loss(fields: dict[str, Any]) -> None:
    """Throws what the NumPy entry throws for arguments like these, and what JAX cannot take."""
    seen = {name: seen_by_core(value) if name in ARRAYS else value for name, value in fields.items()}
    shards = seen.pop("shards")
    if shards > 1:  # the core sees the rows of all
        for name in ("weights", "biases"):
            if seen[name] is not None:
                rows, *dim = seen[name].shape
                seen[name] = np.broadcast_to(np.zeros(dim, seen[name].dtype), (shards * rows, *dim))
    del seen["all_classes"]
    seen["sampled_values"] = _samples_seen_by_core(fields)
    for values, offsets in (("labels", "label_offsets"), ("exclude", "exclude_offsets")):
        if fields[offsets] is not None:
            seen[values], seen[offsets] = _lists_seen_by_core(fields[values], fields[offsets])
    if fields["label_offsets"] is not None and np.shape(fields["label_offsets"]) == (1,):
        seen["label_weights"] = _none_of(seen["label_weights"])
        if isinstance(seen["sampled_values"], tuple) and len(seen["sampled_values"]) == 3:
            ids, true_count, sampled_count = seen["sampled_values"]
            seen["sampled_values"] = ids, _none_of(true_count), sampled_count
    _core.check_loss(seen | {"seed": (0, 0)})
    num_classes = fields["num_classes"]
    require_ids_fit(fields["weights"].shape[0] if num_classes is None else num_classes, "num_classes")


def check_samples(fields: dict[str, Any], samples: Any) -> None:
    """The same of samples that a callable returned, for a request of labels ``[B, T]`` and inputs ``[B, D]``."""
    factors = dict.fromkeys(("positive_weight", "negative_weight", "label_weights", "grad_loss"))  # of another shape
    check_loss({**fields, **factors, "sampled_values": samples})
