"""Report header and the fixtures that several modules share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

import fastnce


def pytest_report_header() -> str:
    config = fastnce.config()
    available = ", ".join(config["isa_available"])
    return (
        f"fastnce {config['version']}, instruction set {config['isa']} of {available}, "
        f"{fastnce.get_num_threads()} threads, NumPy {np.__version__}"
    )


@pytest.fixture
def set_threads() -> Iterator[Callable[[int], None]]:
    """``fastnce.set_num_threads``, undone after the test."""
    before = fastnce.get_num_threads()
    yield fastnce.set_num_threads
    fastnce.set_num_threads(before)
