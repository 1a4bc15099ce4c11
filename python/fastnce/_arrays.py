"""Results come back as the kind of array that came in."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt


def like(example: Any) -> Callable[[npt.NDArray[Any]], Any]:
    """A function that hands a NumPy array over to the library that `example` belongs to, without a copy if it can.

    NumPy arrays, sequences, and arrays of libraries without a known way in stay NumPy arrays.
    """
    if isinstance(example, np.ndarray):
        return _unchanged
    library = type(example).__module__.partition(".")[0]
    return _CONVERTERS.get(library, _unchanged)


def _unchanged(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return array


def _to_torch(array: npt.NDArray[Any]) -> Any:
    return sys.modules["torch"].from_numpy(array)


def _to_jax(array: npt.NDArray[Any]) -> Any:
    # JAX narrows to 32 bits unless told otherwise (jax_enable_x64), ids and float64 alike: its own rule for its arrays.
    return sys.modules["jax"].numpy.asarray(array)


def _to_tensorflow(array: npt.NDArray[Any]) -> Any:
    return sys.modules["tensorflow"].convert_to_tensor(array)


_CONVERTERS: dict[str, Callable[[npt.NDArray[Any]], Any]] = {
    "torch": _to_torch,
    "jax": _to_jax,
    "jaxlib": _to_jax,
    "tensorflow": _to_tensorflow,
}
