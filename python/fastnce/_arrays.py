"""Results come back as the kind of array that came in."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt


def like(example: Any) -> Callable[[Any], Any]:
    """A function that hands a NumPy array over to the library that `example` belongs to, without a copy if it can.

    NumPy arrays, sequences, and arrays of libraries without a known way in stay NumPy arrays. JAX gets int32 ids unless
    ``jax_enable_x64`` is set, as everywhere in JAX.
    """
    if isinstance(example, np.ndarray):
        return _unchanged
    for base in type(example).__mro__:  # subclasses defined elsewhere belong to the library they extend
        converter = _CONVERTERS.get(str(base.__module__).partition(".")[0])
        if converter is not None:
            return converter
    return _unchanged


def _unchanged(array: Any) -> Any:
    return array


def _to_torch(array: npt.NDArray[Any]) -> Any:
    return sys.modules["torch"].from_numpy(array)


def _to_jax(array: npt.NDArray[Any]) -> Any:
    # Without jax_enable_x64 JAX has no int64 and would silently wrap ids from 2**31 on: those stay NumPy arrays.
    jax = sys.modules["jax"]
    if array.dtype == np.int64 and not jax.config.jax_enable_x64 and array.size and array.max() >= 2**31:
        return array
    return jax.numpy.asarray(array)


def _to_tensorflow(array: npt.NDArray[Any]) -> Any:
    return sys.modules["tensorflow"].convert_to_tensor(array)


_CONVERTERS: dict[str, Callable[[Any], Any]] = {
    "torch": _to_torch,
    "jax": _to_jax,
    "jaxlib": _to_jax,
    "tensorflow": _to_tensorflow,
}
