"""Optimizers of class tables as pure functions with explicit state: those of :mod:`fastnce.optim`.

    >>> optimizer = fastnce.jax.optim.Adagrad(lr=0.1)
    >>> state = optimizer.init(weights, biases)
    >>> loss, dinputs, rows = fastnce.jax.nce_value_and_rows(weights, biases, labels, inputs, S, V, key=key)
    >>> weights, biases, state = optimizer.update_rows(weights, biases, state, rows)

Under a ``jit`` to which tables and state are donated, a step updates them in place, in O(rows).
"""

from fastnce.jax.optim._base import Optimizer
from fastnce.jax.optim._optimizers import SGD, Adagrad, Adam, RowwiseAdagrad

__all__ = ["SGD", "Adagrad", "Adam", "Optimizer", "RowwiseAdagrad"]
