"""PyTorch on an emulated CUDA device: tensors in the host's memory that say they are a CUDA device's.

As on a real device, no operation mixes them with the CPU's, but for single numbers and copies, and they have no NumPy
array. The current device is another one, unless fastnce makes this one current: PyTorch lends arrays of no other.
Results of fastnce come in poisoned memory.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._device import _device_constructors
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.dlpack import to_dlpack

from cuda_arrays import PoisoningDevice
from fastnce import _devices
from fastnce.torch import _arguments
from halves import is_bfloat16
from lending import CUDA, DLManagedTensor, capsule_pointer

_to = torch.Tensor.to


class HostBackedCudaTensor(torch.Tensor):
    """The tensor ``host`` of the CPU, said to be a CUDA device's."""

    host: torch.Tensor
    device = torch.device("cuda", 0)
    is_cpu, is_cuda = False, True
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, host: torch.Tensor) -> HostBackedCudaTensor:
        tensor: HostBackedCudaTensor = torch.Tensor._make_subclass(cls, host)
        tensor.host = host
        return tensor

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        tensors = [leaf for leaf in tree_leaves((arguments, options)) if isinstance(leaf, torch.Tensor)]
        others = [tensor for tensor in tensors if not isinstance(tensor, cls) and tensor.dim() > 0]
        assert not others or function is torch.ops.aten.copy_.default, f"{function} mixes cpu and cuda:0"
        on_host, host_options = tree_map_only(cls, lambda tensor: tensor.host, (arguments, options or {}))
        results = function(*on_host, **host_options)
        return arguments[0] if function._schema.is_mutable else tree_map_only(torch.Tensor, cls, results)

    def __dlpack_device__(self) -> tuple[int, int]:
        return CUDA, 0

    def __dlpack__(self, *, stream: int, max_version: Any = None) -> Any:
        if not EmulatedDevice.is_current:
            raise BufferError("Can't export tensors on a different CUDA device index")
        capsule = to_dlpack(self.host.detach())
        DLManagedTensor.from_address(capsule_pointer(capsule, b"dltensor")).tensor.device_type = CUDA
        return capsule

    def data_ptr(self) -> int:
        return self.host.data_ptr()

    def cpu(self) -> torch.Tensor:
        return self.host.detach().clone()

    def tolist(self) -> Any:
        return self.host.tolist()

    def numpy(self, *, force: bool = False) -> Any:
        raise TypeError("a tensor on cuda:0 has no NumPy array")


def on_the_host(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """A function of PyTorch that takes ``device=``, which may also be the emulated one."""

    @functools.wraps(function)
    def call(*arguments: Any, device: Any = None, **options: Any) -> torch.Tensor:
        if device is None or torch.device(device).type != "cuda":
            return function(*arguments, device=device, **options)
        result = function(*arguments, device="cpu", **options)
        return result if isinstance(result, HostBackedCudaTensor) else HostBackedCudaTensor(result)

    return call


def move(tensor: torch.Tensor, *arguments: Any, device: Any = None, **options: Any) -> torch.Tensor:
    """``Tensor.to``, also to the emulated device."""
    if arguments and isinstance(arguments[0], str | torch.device):
        device, *arguments = arguments
    if arguments or options:
        tensor = _to(tensor, *arguments, **options)
    if device is None or torch.device(device).type == tensor.device.type:
        return tensor
    return tensor.cpu() if torch.device(device).type == "cpu" else HostBackedCudaTensor(tensor.detach().clone())


class EmulatedDevice(PoisoningDevice):
    """What fastnce takes for the framework of :class:`HostBackedCudaTensor`."""

    is_current = False

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        before, EmulatedDevice.is_current = EmulatedDevice.is_current, True
        try:
            yield
        finally:
            EmulatedDevice.is_current = before

    def empty(self, dtype: str, shape: tuple[int, ...]) -> tuple[Any, int]:
        lent, address = super().empty(dtype, shape)
        return HostBackedCudaTensor(from_numpy(lent.array)), address


def from_numpy(array: np.ndarray) -> torch.Tensor:
    if is_bfloat16(array):
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def emulate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives PyTorch the device, for a build of fastnce that emulates it."""
    monkeypatch.setitem(_devices._DEVICES, __name__, EmulatedDevice)
    monkeypatch.setattr(_arguments, "_PLAIN", (*_arguments._PLAIN, HostBackedCudaTensor))
    monkeypatch.setattr(torch.Tensor, "to", move)
    for function in _device_constructors():
        if getattr(torch, function.__name__, None) is function:
            monkeypatch.setattr(torch, function.__name__, on_the_host(function))
