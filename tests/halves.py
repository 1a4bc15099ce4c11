"""The 16-bit floats of NumPy arrays. bfloat16 is in the package ml_dtypes: without it, the cases that use it skip."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

try:
    import ml_dtypes

    BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
    _WHY_NOT = ""
except ImportError as error:
    BFLOAT16 = None
    _WHY_NOT = f"ml_dtypes cannot be imported: {error}"

HALVES = {"float16": np.dtype(np.float16), "bfloat16": BFLOAT16}

needs_bfloat16 = pytest.mark.skipif(BFLOAT16 is None, reason=_WHY_NOT)


def half_cases(values: Iterable[Any]) -> list[Any]:
    """For parametrize(): dtypes, their names, or tuples of either. Those with bfloat16 skip without ml_dtypes."""

    def case(value: Any) -> Any:
        parts = value if isinstance(value, tuple) else (value,)
        with_bfloat16 = any(part is BFLOAT16 or str(part) == "bfloat16" for part in parts)
        return pytest.param(value, marks=needs_bfloat16 if with_bfloat16 else ())

    return [case(value) for value in values]


def is_bfloat16(array: np.ndarray) -> bool:
    return array.dtype.name == "bfloat16"
