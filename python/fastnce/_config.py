"""What this build and this machine offer, the precision and the number of threads."""

from __future__ import annotations

from typing import Any, SupportsIndex

import numpy as np

from fastnce import _core, cuda
from fastnce._types import Precision


def config() -> dict[str, Any]:
    """The configuration that :func:`show_config` prints, as a dictionary."""
    return _core.config() | {"cuda": _cuda_config(), "numpy": np.__version__}


def _cuda_config() -> bool | str | dict[str, Any]:
    """``False`` without the backend, what it lacks, or its devices."""
    if not _core.cuda_built():
        return False
    return cuda.unavailable_reason() or {"devices": [device._asdict() for device in cuda.devices()]}


def _cuda_text(config: bool | str | dict[str, Any]) -> str:
    if isinstance(config, dict):
        devices = (cuda.Device(**device) for device in config["devices"])
        return ", ".join(
            f"{name} ({major}.{minor}), {memory / 2**30:.0f} GiB" for name, (major, minor), _, memory in devices
        )
    return f"unavailable: {config}" if config else "built without CUDA"


def show_config() -> None:
    """Print version, compiler, instruction set in use, precision, threads and CUDA devices."""
    labels = {
        "version": "fastnce",
        "compiler": "compiler",
        "isa": "instruction set",
        "isa_available": "available",
        "precision": "precision",
        "num_threads": "threads",
        "cuda": "CUDA",
        "numpy": "numpy",
    }
    values = config()
    values["cuda"] = _cuda_text(values["cuda"])
    values["isa_available"] = ", ".join(values["isa_available"])
    for key, label in labels.items():
        print(f"{label:16}{values[key]}")


def get_precision() -> Precision:
    """The precision of calls that name none; see :func:`set_precision`."""
    return _core.get_precision()


def set_precision(precision: Precision) -> None:
    """Set the precision of float32 products for calls that name none.

    The levels are those of ``torch.set_float32_matmul_precision``:

    - ``"highest"``, the default: errors no larger than plain float32 arithmetic's.
    - ``"high"``: about 1e-5.
    - ``"medium"``: products of bfloat16 numbers, summed up in float32: about 1e-2.

    A level is a minimum: where lower precision is not faster, a higher one is used. It affects the matrix products over
    sampled classes only; true classes, the logistic function and float64 are unaffected.
    The environment variable ``FASTNCE_PRECISION`` sets what holds at import.

    Raises ``ValueError`` for other names, ``TypeError`` for what is not a string.
    """
    _core.set_precision(precision)


def get_num_threads() -> int:
    """The largest number of threads per call: :func:`set_num_threads`, or OpenMP's default; 1 in a forked child."""
    return _core.get_num_threads()


def set_num_threads(num_threads: SupportsIndex) -> None:
    """Set the largest number of threads that a call uses; small problems use fewer.

    Raises ``ValueError`` outside [1, 4096]. Results do not depend on it beyond rounding, sampled ids not at all.
    """
    _core.set_num_threads(num_threads)
