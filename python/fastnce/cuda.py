"""CUDA devices that fastnce can use.

The functions of :mod:`fastnce` compute on the device of their arrays. They queue their work on the current stream of
the framework that ``inputs`` belongs to. With arrays of PyTorch or of CuPy alone they return without synchronising, so
ids are not range-checked: an example with a label out of range gets a loss of NaN, and :func:`check` reports the id.
The environment variable ``FASTNCE_CHECK=1`` runs that check after every call.
"""

from __future__ import annotations

from typing import NamedTuple, SupportsIndex

from fastnce import _core


class Device(NamedTuple):
    """A CUDA device."""

    name: str
    compute_capability: tuple[int, int]
    multiprocessors: int
    memory_bytes: int


def is_available() -> bool:
    """Whether a CUDA device can be used."""
    return not _core.cuda_unavailable_reason()


def unavailable_reason() -> str:
    """What is missing: build, driver or device; empty if :func:`is_available`."""
    return _core.cuda_unavailable_reason()


def devices() -> list[Device]:
    """The devices, in CUDA's order; empty if CUDA is unavailable."""
    return [Device(*device) for device in _core.cuda_devices()]


def check(device: SupportsIndex = 0) -> None:
    """Wait for the device, and report ids out of range in the calls since the last check.

    Args:
        device: CUDA's number of the device.

    Raises:
        ValueError: Naming argument, position and value of one such id and how many there were; or no such device.
        RuntimeError: CUDA reports an error.
    """
    _core.cuda_check(device)
