"""What this build and this machine offer, and the number of threads."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnce import _core


def config() -> dict[str, Any]:
    """The configuration that :func:`show_config` prints, as a dictionary."""
    return _core.config() | {"numpy": np.__version__}


def show_config() -> None:
    """Print version, compiler, instruction set in use, threads and CUDA build."""
    labels = {
        "version": "fastnce",
        "compiler": "compiler",
        "isa": "instruction set",
        "isa_available": "available",
        "num_threads": "threads",
        "cuda": "CUDA",
        "numpy": "numpy",
    }
    values = config()
    values["cuda"] = "available" if values["cuda"] else "built without CUDA"
    values["isa_available"] = ", ".join(values["isa_available"])
    for key, label in labels.items():
        print(f"{label:16}{values[key]}")


def get_num_threads() -> int:
    """The largest number of threads that a call uses: :func:`set_num_threads`, or OpenMP's default."""
    return _core.get_num_threads()


def set_num_threads(num_threads: int) -> None:
    """Set the largest number of threads that a call uses; small problems use fewer.

    Raises ``ValueError`` outside [1, 4096]. Results do not depend on it beyond rounding, sampled ids not at all.
    """
    _core.set_num_threads(num_threads)
