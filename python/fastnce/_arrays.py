"""Results have the array type of the inputs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnce._errors import is_a

Convert = Callable[..., Any]
"""Exports a result; also given: the argument whose dtype it has, if any."""


def like(example: Any) -> Convert:
    """A function that hands a NumPy array over to the library that `example` belongs to, without a copy if it can.

    NumPy arrays, sequences, and arrays of libraries without a known way in stay NumPy arrays. JAX gets int32 ids unless
    ``jax_enable_x64`` is set, as everywhere in JAX. A uint16 array holds bfloat16.
    """
    if isinstance(example, np.ndarray):
        return _to_numpy
    for base in type(example).__mro__:  # subclasses defined elsewhere belong to the library they extend
        converter = _CONVERTERS.get(str(base.__module__).partition(".")[0])
        if converter is not None:
            return converter
    return _to_numpy


def _to_numpy(array: npt.NDArray[Any], argument: Any = None) -> Any:
    if array.dtype != np.uint16:
        return array
    # NumPy has no bfloat16 of its own: a result has the dtype of its argument, ml_dtypes' or uint16.
    first = argument[0] if isinstance(argument, list | tuple) else argument
    return array.view(first.dtype) if isinstance(first, np.ndarray) else array


def _to_torch(array: npt.NDArray[Any], _argument: Any = None) -> Any:
    torch = sys.modules["torch"]
    if array.dtype == np.uint16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def _to_jax(array: npt.NDArray[Any], _argument: Any = None) -> Any:
    # Without jax_enable_x64 JAX has no int64 and would silently wrap ids from 2**31 on: those stay NumPy arrays.
    jax = sys.modules["jax"]
    if array.dtype == np.int64 and not jax.config.jax_enable_x64 and array.size and array.max() >= 2**31:
        return array
    return jax.numpy.asarray(array.view(jax.numpy.bfloat16) if array.dtype == np.uint16 else array)


def _to_tensorflow(array: npt.NDArray[Any], _argument: Any = None) -> Any:
    tensorflow = sys.modules["tensorflow"]
    tensor = tensorflow.convert_to_tensor(array)
    return tensorflow.bitcast(tensor, tensorflow.bfloat16) if array.dtype == np.uint16 else tensor


_CONVERTERS: dict[str, Convert] = {
    "torch": _to_torch,
    "jax": _to_jax,
    "jaxlib": _to_jax,
    "tensorflow": _to_tensorflow,
}


def require_writable(array: Any, name: str) -> None:
    """Refuses an array whose library does not let it be written to."""
    library = like(array).__name__.removeprefix("_to_")
    if library in ("jax", "tensorflow"):
        raise TypeError(
            f"{name} {is_a(array)}, which cannot be written to: expected a NumPy array or a tensor of PyTorch"
            + ("; fastnce.jax updates rows of JAX's arrays" if library == "jax" else "")
        )
    if isinstance(array, np.ndarray) and not array.flags.writeable:
        raise ValueError(f"{name} is read-only: expected an array that can be written to")


def joined(first: Any, second: Any) -> Any:
    """The rows of two arrays, one after the other, in an array of the library of the first."""
    name = like(first).__name__.removeprefix("_to_")
    if name == "torch":
        return sys.modules["torch"].cat([first, second])
    if name == "tensorflow":
        return sys.modules["tensorflow"].concat([first, second], 0)
    return (sys.modules["jax"].numpy if name == "jax" else np).concatenate([first, second])


def no_losses(inputs: Any) -> Any:
    """The losses of no examples."""
    return like(inputs)(np.zeros(0, np.float64 if "float64" in str(inputs.dtype) else np.float32))
