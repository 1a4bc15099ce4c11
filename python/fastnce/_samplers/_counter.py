"""Calls of a sampler counted in the memory of a CUDA device."""

from __future__ import annotations

import threading
from typing import Any, ClassVar

from fastnce import _core
from fastnce._devices import Device


class Counter:
    """A number in the memory of a device.

    Its memory is never freed: a CUDA graph that captured a call may be replayed after the end of the sampler, and work
    that counts may still be queued on any stream. Counters share pages, so that each costs 8 bytes.
    """

    _PAGE = 512  # counters
    _lock = threading.RLock()
    _pages: ClassVar[list[Any]] = []
    _free: ClassVar[dict[tuple[type[Device], int], list[int]]] = {}

    def __init__(self, device: Device, calls: int) -> None:
        self._device = device
        self.address = self._take(device)
        _core.cuda_write(calls, self.address, device)

    @classmethod
    def _take(cls, device: Device) -> int:
        with cls._lock:
            free = cls._free.setdefault((type(device), device.index), [])
            if not free:
                page, address = device.empty("int64", (cls._PAGE,))
                cls._pages.append(page)
                # What this stream did before with the memory must not reach counters that are written on another.
                _core.cuda_synchronize(device)
                free.extend(range(address, address + 8 * cls._PAGE, 8))
            return free.pop()

    def read(self) -> int:
        """Waits for the framework's current stream."""
        return _core.cuda_read(self.address, self._device)

    def write(self, calls: int) -> None:
        _core.cuda_write(calls, self.address, self._device)
