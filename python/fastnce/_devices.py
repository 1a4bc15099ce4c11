"""CUDA devices of a call: the stream, the memory and the arrays of the caller's framework.

Frameworks are found by the arrays that they made, never imported.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

from fastnce import _core
from fastnce._errors import is_a


class Device:
    """A CUDA device, for arrays of a framework that is known by DLPack alone.

    Work goes to the legacy default stream and results are ours, a ``DeviceArray``. Such a framework may use an array's
    memory again as soon as it has it back, whatever our stream still does with it: so calls wait for their work.
    """

    waits = True
    """Whether a call waits for its work before it gives its arguments back."""

    def __init__(self, index: int, num_classes: Any = 0) -> None:
        self.index = index
        self.num_classes = num_classes
        """Ids in results are below it; read after a call, which validates it."""

    @property
    def stream(self) -> int:
        """The stream that calls are queued on, as an address; 0 is the legacy default stream."""
        return 0

    @property
    def captures(self) -> bool:
        """Whether the framework says that the stream is being captured in a CUDA graph."""
        return False

    def current(self) -> AbstractContextManager[Any]:
        """Makes the device the framework's current one: some lend arrays of no other."""
        return contextlib.nullcontext()

    def empty(self, dtype: str, shape: tuple[int, ...]) -> tuple[Any, int]:
        """A new array for the work on ``stream``, of which slices have the first rows or the last, and its address."""
        array = _core.new_device_array(dtype, list(shape), self)
        return array, array.address

    def full(self, shape: tuple[int, ...], value: float) -> Any:
        """A float32 array of one number, of the framework."""
        array, address = self.empty("float32", shape)
        _core.cuda_fill(value, math.prod(shape), address, self)
        return array

    def assign(self, to: Any, values: Any) -> None:
        """Copies an array of any kind into one that :meth:`full` gave."""
        raise TypeError(f"an array {is_a(to)} cannot be assigned to: expected one of PyTorch or of CuPy")

    def arange(self, count: int) -> Any:
        """The integers 0 to ``count - 1``, of the framework."""
        array, address = self.empty("int64", (count,))
        _core.cuda_count_up(count, address, self)
        return array

    def hand_over(self, array: Any, _argument: Any = None) -> Any:
        """What :meth:`empty` gave as a result, given also the argument whose dtype it has, if there is one."""
        return array

    @contextlib.contextmanager
    def call(self, *arguments: Any) -> Iterator[None]:
        """Around every call. With ``FASTNCE_CHECK=1`` in the environment it ends with ``fastnce.cuda.check``.

        ``arguments`` are the arrays that it borrows, also in lists, besides the one that decides the device. Another
        framework does not order the reuse of its memory with our stream, so the call waits, unless it is being
        captured: then nothing runs yet, and the graph's owner keeps its arrays.
        """
        with self.current():
            if not self.waits and self._any_foreign(arguments):
                self.waits = not self.captures
            yield
        if os.environ.get("FASTNCE_CHECK", "0") not in ("", "0"):
            _core.cuda_check(self.index)

    def _any_foreign(self, arguments: tuple[Any, ...]) -> bool:
        kinds: set[type] = set()
        for argument in arguments:
            kinds.update(map(type, argument) if isinstance(argument, list | tuple) else [type(argument)])
        return any(_device_type(kind) is not type(self) for kind in kinds - {type(None)})

    def __str__(self) -> str:
        return f"cuda:{self.index}"


class _Torch(Device):
    waits = False  # the caching allocator gives memory to later work on the stream

    @property
    def stream(self) -> int:
        return int(sys.modules["torch"].cuda.current_stream(self.index).cuda_stream)

    @property
    def captures(self) -> bool:
        return bool(sys.modules["torch"].cuda.is_current_stream_capturing())

    def current(self) -> AbstractContextManager[Any]:
        guard: AbstractContextManager[Any] = sys.modules["torch"].cuda.device(self.index)
        return guard

    def empty(self, dtype: str, shape: tuple[int, ...]) -> tuple[Any, int]:
        torch = sys.modules["torch"]
        array = torch.empty(shape, dtype=getattr(torch, dtype), device=f"cuda:{self.index}")
        return array, array.data_ptr()

    def assign(self, to: Any, values: Any) -> None:
        to.copy_(sys.modules["torch"].as_tensor(values))


class _Cupy(Device):
    waits = False  # as PyTorch's

    @property
    def stream(self) -> int:
        return int(sys.modules["cupy"].cuda.get_current_stream(self.index).ptr)

    @property
    def captures(self) -> bool:
        return bool(sys.modules["cupy"].cuda.get_current_stream(self.index).is_capturing())

    def current(self) -> AbstractContextManager[Any]:
        guard: AbstractContextManager[Any] = sys.modules["cupy"].cuda.Device(self.index)
        return guard

    def empty(self, dtype: str, shape: tuple[int, ...]) -> tuple[Any, int]:
        # bfloat16 as its bits: not every version has the type.
        array = sys.modules["cupy"].empty(shape, "uint16" if dtype == "bfloat16" else dtype)
        return array, array.data.ptr

    def assign(self, to: Any, values: Any) -> None:
        to[...] = sys.modules["cupy"].asarray(values)

    def hand_over(self, array: Any, argument: Any = None) -> Any:
        first = argument[0] if isinstance(argument, list | tuple) else argument
        return array.view(first.dtype) if array.dtype == "uint16" and isinstance(first, type(array)) else array


class _Jax(Device):
    def hand_over(self, array: Any, _argument: Any = None) -> Any:
        # Without jax_enable_x64 JAX makes int64 int32 and would silently wrap ids from 2**31 on.
        jax = sys.modules["jax"]
        if array.dtype == "int64" and not jax.config.jax_enable_x64 and self.num_classes > 2**31:
            return array
        return jax.dlpack.from_dlpack(array)


_DEVICES: dict[str, type[Device]] = {"torch": _Torch, "cupy": _Cupy, "jax": _Jax, "jaxlib": _Jax}


def cuda_device_of(example: Any, name: str, num_classes: Any) -> Device | None:
    """The device of a call, from the argument that decides it: a CUDA device, or ``None`` for the CPU.

    ``None`` also for devices that cannot be used, which the CPU then refuses.
    """
    index = _core.cuda_device_of(example, name)
    return None if index is None else _device_type(type(example))(index, num_classes)


def _device_type(kind: type) -> type[Device]:
    for base in kind.__mro__:  # subclasses defined elsewhere belong to the library they extend
        known = _DEVICES.get(str(base.__module__).partition(".")[0])
        if known is not None:
            return known
    return Device
