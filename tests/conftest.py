"""Report header and the fixtures that several modules share."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import numpy as np
import pytest

import cuda_arrays
import fastnce
from fastnce import _devices


def pytest_report_header() -> str:
    config = fastnce.config()
    available = ", ".join(config["isa_available"])
    return (
        f"fastnce {config['version']}, instruction set {config['isa']} of {available}, "
        f"{fastnce.get_num_threads()} threads, NumPy {np.__version__}, "
        f"CUDA arrays of {', '.join(cuda_arrays.installed()) or f'no library: {cuda_arrays.why_not()}'}"
    )


@pytest.fixture
def set_threads() -> Iterator[Callable[[int], None]]:
    """``fastnce.set_num_threads``, undone after the test."""
    before = fastnce.get_num_threads()
    yield fastnce.set_num_threads
    fastnce.set_num_threads(before)


@pytest.fixture(params=cuda_arrays.installed() or ["none"])
def cuda_array(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[cuda_arrays.CudaArrays]:
    """Arrays on a CUDA device, of every framework that there is in turn."""
    if reason := cuda_arrays.why_not(request.param):
        pytest.skip(reason)
    if request.param == "emulated":
        monkeypatch.setitem(_devices._DEVICES, cuda_arrays.__name__, cuda_arrays.PoisoningDevice)
    forget_bad_ids()
    with cuda_arrays.all_widths(request.param):
        yield cuda_arrays.CudaArrays(request.param)


def forget_bad_ids() -> None:
    """Ids out of range that an earlier test has left to be reported."""
    with contextlib.suppress(ValueError):
        fastnce.cuda.check()
