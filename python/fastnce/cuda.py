"""The CUDA devices that fastnce can use.

The functions of :mod:`fastnce` work on the device that their arrays are on. There they queue their work on the current
stream of the framework that ``inputs`` belongs to and return; they do not look at ids, which would make them wait. An
example with a label out of range gets a loss of NaN; :func:`check` says which id it was. In the environment,
``FASTNCE_CHECK=1`` makes every call end with that check.
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
    """Whether there is a CUDA device to work on."""
    return not _core.cuda_unavailable_reason()


def unavailable_reason() -> str:
    """Which of build, driver and device is missing; empty where :func:`is_available`."""
    return _core.cuda_unavailable_reason()


def devices() -> list[Device]:
    """The devices, by CUDA's number; empty where CUDA is unavailable."""
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
