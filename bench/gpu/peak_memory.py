"""Device memory that one step takes beyond what was there before and what it returns.

Counts PyTorch's allocator and the driver's own pool (cudaMallocAsync), which libraries with a stream of their own use.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
from collections.abc import Callable

import torch

from contender import Outputs

# CUmemPool_attribute
_USED_CURRENT, _USED_HIGH = 7, 8


class DriverPool:
    """The current device's default memory pool; counts nothing where the driver does not let us."""

    def __init__(self) -> None:
        self._pool = ctypes.c_void_p()
        self._driver: ctypes.CDLL | None = None
        with contextlib.suppress(OSError, AttributeError):
            driver = ctypes.CDLL("libcuda.so.1")
            device = ctypes.c_int(torch.cuda.current_device())
            if driver.cuDeviceGetDefaultMemPool(ctypes.byref(self._pool), device) == 0:
                self._driver = driver

    def _get(self, attribute: int) -> int:
        value = ctypes.c_uint64(0)
        if self._driver is not None:
            self._driver.cuMemPoolGetAttribute(self._pool, ctypes.c_int(attribute), ctypes.byref(value))
        return value.value

    def reset(self) -> None:
        if self._driver is not None:
            zero = ctypes.c_uint64(0)
            self._driver.cuMemPoolSetAttribute(self._pool, ctypes.c_int(_USED_HIGH), ctypes.byref(zero))

    def used(self) -> int:
        return self._get(_USED_CURRENT)

    def peak(self) -> int:
        return self._get(_USED_HIGH)


def extra_bytes(step: Callable[[], object], outputs: Callable[[object], Outputs | None]) -> dict[str, int]:
    """For a contender that has not run yet: what it keeps for its next step counts as extra, too."""
    pool = DriverPool()
    gc.collect()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated() + pool.used()
    step()
    torch.cuda.synchronize()
    gc.collect()
    torch.cuda.reset_peak_memory_stats()
    pool.reset()
    result = step()
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated() + pool.peak()
    tensors = outputs(result) or ()
    returned = sum(t.numel() * t.element_size() for t in tensors if t is not None)
    return {"extra_bytes": peak - before - returned, "output_bytes": returned}
