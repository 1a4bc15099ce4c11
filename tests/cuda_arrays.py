"""Arrays on a CUDA device for the tests, by framework: PyTorch's, CuPy's, JAX's, and NumPy's in disguise.

A build for an emulated device, whose memory is the host's, is tested with the disguise alone and
``FASTNCE_TEST_EMULATED_CUDA=1`` in the environment; a real device with the frameworks that are installed.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.util
import os
import warnings
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import fastnce
from cases import Problem
from fastnce import _devices
from fastnce._request import ARRAYS_OF_PARTS
from halves import BFLOAT16, is_bfloat16
from lending import (
    CUDA,
    DLManagedTensor,
    DLManagedTensorVersioned,
    DLTensor,
    LegacyProducer,
    capsule_pointer,
    rename_capsule,
)
from tolerances import Results

EMULATED = os.environ.get("FASTNCE_TEST_EMULATED_CUDA") == "1"
POISON = 0xFF
"""Every byte of memory that was never written: NaN as a float of any width, -1 as an integer."""


class HostBackedCudaArray(LegacyProducer):
    """NumPy's memory, said to be a CUDA device's."""

    def __init__(self, array: np.ndarray, device: int = 0) -> None:
        super().__init__(array, device=(CUDA, device))
        self.streams: list[int | None] = []
        """Those it was asked to be ready for."""

    def __getitem__(self, rows: slice) -> HostBackedCudaArray:
        return HostBackedCudaArray(self.array[rows], self.device[1])

    def __dlpack__(self, *, stream=None, max_version=None):
        self.streams.append(stream)
        return self.lend()


class PoisoningDevice(_devices.Device):
    """What fastnce takes for the framework of :class:`HostBackedCudaArray`: results and temporaries come poisoned."""

    waits = False

    def empty(self, dtype: str, shape: tuple[int, ...]) -> tuple[Any, int]:
        kind = np.dtype(BFLOAT16 if dtype == "bfloat16" else dtype)
        size = int(np.prod(shape)) * kind.itemsize
        memory = np.full(size + 256, POISON, np.uint8)
        start = -memory.ctypes.data % 256
        array = HostBackedCudaArray(memory[start : start + size].view(kind).reshape(shape), self.index)
        return array, array.array.ctypes.data


USED_NAMES = (b"used_dltensor", b"used_dltensor_versioned")
"""Kept here, since a capsule does not copy its name."""


def read_device_array(array: Any, **options: Any) -> np.ndarray:
    """What a consumer of DLPack finds in an array on an emulated device: a copy."""
    capsule = array.__dlpack__(**options)
    versioned = options.get("max_version", (0, 0)) >= (1, 0)
    name = b"dltensor_versioned" if versioned else b"dltensor"
    managed = (DLManagedTensorVersioned if versioned else DLManagedTensor).from_address(capsule_pointer(capsule, name))
    rename_capsule(capsule, USED_NAMES[versioned])
    copy = read_tensor(managed.tensor)
    managed.deleter(ctypes.byref(managed))
    return copy


def read_tensor(tensor: DLTensor) -> np.ndarray:
    """A copy of a compact tensor in the host's memory."""
    shape = tuple(tensor.shape[: tensor.ndim])
    kind = {
        (0, 64): np.int64,
        (1, 8): np.uint8,
        (2, 32): np.float32,
        (2, 64): np.float64,
        (2, 16): np.float16,
        (4, 16): BFLOAT16,
    }[tensor.dtype_code, tensor.dtype_bits]
    size = int(np.prod(shape)) * np.dtype(kind).itemsize
    data = ctypes.string_at(tensor.data, size) if size else b""
    return np.frombuffer(data, kind).reshape(shape).copy()


@dataclass(frozen=True)
class CudaArrays:
    """How the arrays of one framework are made and read."""

    name: str

    def put(self, array: Any) -> Any:
        """A copy of a NumPy array on the device, strides and all."""
        array = np.asarray(array)
        if self.name in ("emulated", "unknown"):
            return HostBackedCudaArray(array)
        if self.name == "torch":
            import torch

            if is_bfloat16(array):
                return torch.from_numpy(array.view(np.int16).copy()).cuda().view(torch.bfloat16)
            return torch.from_numpy(array.copy()).cuda()
        if self.name == "cupy":
            import cupy

            return cupy.asarray(array.view(np.uint16) if is_bfloat16(array) else array)
        import jax

        return jax.device_put(array, jax.devices("cuda")[0])

    def get(self, array: Any) -> np.ndarray:
        """A NumPy copy of a result."""
        if isinstance(array, HostBackedCudaArray):
            return array.array
        if type(array).__name__ == "DeviceArray" and not EMULATED:  # its memory is the device's
            torch = pytest.importorskip("torch", reason="PyTorch, which reads a DeviceArray, is not installed")
            return np.asarray(torch.from_dlpack(array).cpu())
        if type(array).__name__ == "DeviceArray":
            return read_device_array(array, stream=1)
        if self.name == "torch":
            import torch

            if array.dtype == torch.bfloat16:
                return array.view(torch.int16).cpu().numpy().view(BFLOAT16)
            return array.cpu().numpy()
        if self.name == "cupy":
            return array.get()
        return np.asarray(array)

    def is_own(self, array: Any) -> bool:
        """Whether a result belongs to the framework: with an unknown one, whether it is a ``DeviceArray``."""
        if self.name == "emulated":
            return isinstance(array, HostBackedCudaArray)
        if self.name == "unknown":
            return type(array).__name__ == "DeviceArray"
        return type(array).__module__.partition(".")[0] in (self.name, f"{self.name}lib")

    def put_all(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Keyword arguments of a loss with every array on the device."""
        return {name: self._put_argument(name, value) for name, value in arguments.items()}

    def _put_argument(self, name: str, value: Any) -> Any:
        if value is None:
            return None
        if isinstance(value, fastnce.Ragged):
            return fastnce.Ragged(*map(self.put, value))
        if name == "sampled_values":
            ids, *counts = value
            return (self.put(ids), *(None if c is None else self.put(np.asarray(c, np.float32)) for c in counts))
        if name in ("grad_loss", "label_weights") or (
            name in ("positive_weight", "negative_weight") and np.ndim(value)
        ):
            return self.put(np.asarray(value, np.float32))
        if name in ("weights", "biases", "labels", "inputs", "sampled_candidates", "class_keys", *ARRAYS_OF_PARTS):
            return [self.put(shard) for shard in value] if isinstance(value, list) else self.put(value)
        return value

    def solve(self, problem: Problem, **changes: Any) -> tuple[np.ndarray, Results]:
        """Row ids and results of the library on the device, with some arguments given differently (from the host)."""
        loss, grads = problem.loss.library()(**self.put_all({**problem.arguments(), **changes}))
        results = (loss, grads.inputs, grads.rows.weights, grads.rows.biases)
        return self.get(grads.rows.ids), Results(*(None if array is None else self.get(array) for array in results))


def all_widths(name: str) -> AbstractContextManager[Any]:
    """Around a test that puts arrays: JAX, by default, makes 64-bit numbers 32-bit ones."""
    if name != "jax":
        return contextlib.nullcontext()
    from jax_arrays import enable_x64

    return enable_x64(True)


DISGUISES = ["emulated", "unknown"]


def installed() -> list[str]:
    """The frameworks to test with, where there is a device; `why_not` tells which of them cannot use it."""
    if not fastnce.cuda.is_available():
        return []
    if EMULATED:
        return DISGUISES
    return [name for name in ("torch", "cupy", "jax") if importlib.util.find_spec(name) is not None]


def why_not(name: str = "none") -> str:
    """Why there are no CUDA arrays of this framework; empty if there are."""
    if reason := fastnce.cuda.unavailable_reason():
        return reason
    if name == "none":
        return "none of PyTorch, CuPy and JAX is installed"
    return "" if name in DISGUISES else _trouble(name)


@functools.cache
def _trouble(name: str) -> str:
    """What goes wrong when an array is put on the device, as with a JAX for the CPU or a CuPy for another CUDA."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # JAX must leave memory to the others
    framework, numbers = CudaArrays(name), np.arange(3, dtype=np.float32)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pytest turns them into errors, and imports give many
            np.testing.assert_array_equal(framework.get(framework.put(numbers)), numbers)
    except Exception as error:
        first_line = str(error).strip().partition("\n")[0]
        return f"{name} has no CUDA device: {type(error).__name__}: {first_line}"
    return ""
