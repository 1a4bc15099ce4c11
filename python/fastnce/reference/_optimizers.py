"""Optimizers: what a step subtracts from the rows that it touches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float64]
States: TypeAlias = dict[str, Array]
"""By name, of the rows of a step; a rule changes them in place."""


def sgd(g: Array, states: States, *, lr: float, step: int) -> Array:
    """Gradient descent."""
    return lr * g


def momentum(g: Array, states: States, *, lr: float, step: int, momentum: float) -> Array:
    """Gradient descent with momentum."""
    v = states["momentum_buffer"]
    v[...] = momentum * v + g
    return lr * v


def adagrad(g: Array, states: States, *, lr: float, step: int, eps: float, eps_inside_sqrt: bool = False) -> Array:
    """Adagrad."""
    total = states["sum"]
    total += g * g
    return lr * g / (np.sqrt(total + eps) if eps_inside_sqrt else np.sqrt(total) + eps)


def rowwise_adagrad(
    g: Array, states: States, *, lr: float, step: int, eps: float, eps_inside_sqrt: bool = False
) -> Array:
    """Adagrad with one sum for a row, ``[n]``."""
    total = states["sum"]
    total += (g * g).reshape(len(g), -1).mean(1)
    root = np.sqrt(total + eps) if eps_inside_sqrt else np.sqrt(total) + eps
    return lr * g / root.reshape(-1, *(1,) * (g.ndim - 1))


def adam(
    g: Array,
    states: States,
    *,
    lr: float,
    step: int,
    betas: tuple[float, float],
    eps: float,
    eps_corrected: bool = False,
) -> Array:
    """Lazy Adam."""
    m, v = states["exp_avg"], states["exp_avg_sq"]
    m[...] = betas[0] * m + (1 - betas[0]) * g
    v[...] = betas[1] * v + (1 - betas[1]) * g * g
    first, second = 1 - betas[0] ** step, 1 - betas[1] ** step
    root = np.sqrt(v / second) + eps if eps_corrected else (np.sqrt(v) + eps) / np.sqrt(second)
    return lr * m / first / root


def update_rows(
    rule: Callable[..., Array],
    table: Array,
    states: States,
    ids: npt.ArrayLike,
    rows: npt.ArrayLike,
    *,
    lr: float,
    weight_decay: float = 0.0,
    **numbers: Any,
) -> None:
    """One step on rows ``ids [n]`` of a table ``[V, D]`` or ``[V]``, whose gradients are ``rows``: adds up those of
    equal ids, then changes the table and its states in place."""
    touched, place = np.unique(np.asarray(ids), return_inverse=True)
    rows = np.asarray(rows, np.float64)
    gradients = np.zeros((len(touched), *rows.shape[1:]))
    np.add.at(gradients, place, rows)
    of_rows = {name: state[touched] for name, state in states.items()}
    delta = rule(gradients, of_rows, lr=lr, **numbers)
    table[touched] = (1 - lr * weight_decay) * table[touched] - delta
    for name, state in states.items():
        state[touched] = of_rows[name]
