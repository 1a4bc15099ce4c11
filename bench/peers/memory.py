"""Peak memory of one call beyond what was there before it and beyond what it returns (Linux)."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any


def _status_bytes(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


def _reset_peak() -> bool:
    """Set VmHWM back to VmRSS, where the kernel lets us."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def extra_peak_bytes(call: Callable[[], Any], output_bytes: Callable[[Any], int]) -> dict[str, Any]:
    """Run `call` once and say how far memory rose above inputs and outputs.

    Without the reset only a rise above the largest peak so far shows, so that the figure is a lower bound.
    """
    gc.collect()
    # Free heap pages that the call could otherwise take without showing.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    exact = _reset_peak()
    before = _status_bytes("VmRSS") if exact else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    result = call()
    peak = _status_bytes("VmHWM") if exact else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    returned = output_bytes(result)
    return {
        "extra_bytes": peak - before - returned,
        "output_bytes": returned,
        "method": "VmHWM" if exact else "ru_maxrss (lower bound)",
    }
