"""Gradients as the derivatives of a loss: central differences in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tolerances import DIFFERENCE_ABSOLUTE, DIFFERENCE_STEP


def slopes(loss: Callable[[NDArray[Any]], ArrayLike], array: NDArray[Any], factors: ArrayLike) -> NDArray[Any]:
    """Of ``factors . loss(array)``, along every element of the array."""
    result = np.empty(array.shape)
    for at in np.ndindex(array.shape):
        sides = []
        for step in (-DIFFERENCE_STEP, DIFFERENCE_STEP):
            moved = array.copy()
            moved[at] += step
            sides.append(np.asarray(factors) @ loss(moved))
        result[at] = (sides[1] - sides[0]) / (2 * DIFFERENCE_STEP)
    return result


def assert_slopes(
    gradient: ArrayLike, loss: Callable[[NDArray[Any]], ArrayLike], array: NDArray[Any], factors: ArrayLike
) -> None:
    np.testing.assert_allclose(gradient, slopes(loss, array, factors), rtol=0, atol=DIFFERENCE_ABSOLUTE)
