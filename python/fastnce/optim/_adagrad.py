"""Adagrad."""

from __future__ import annotations

from typing import Unpack

import numpy as np

from fastnce._errors import not_negative
from fastnce._types import Table
from fastnce.optim._base import Optimizer, Options, Schedule


class Adagrad(Optimizer):
    """Adagrad (Duchi, Hazan, Singer 2011): ``torch.optim.Adagrad``, for the rows that a step touches.

    ::

        sum = sum + g^2
        w = (1 - lr weight_decay) w - lr / (1 + (step - 1) lr_decay) g / (sqrt(sum) + eps)

    TensorFlow's are other values of the same arguments: ``tf.compat.v1.train.AdagradOptimizer`` has
    ``initial_accumulator_value=0.1, eps=0``, Keras ``lr=1e-3, initial_accumulator_value=0.1, eps=1e-7,
    eps_inside_sqrt=True``. Keras adds the squares of a class's gradients one by one: the same if it occurs once.

    Args:
        weights: ``[V, D]`` table; as :class:`SGD` has it.
        biases: ``[V]``, or a list of shards; ``None``: no biases.
        lr: Learning rate, or a function of the step's number, from 1, that returns it.
        lr_decay: The rate falls with ``1 / (1 + (step - 1) lr_decay)``.
        initial_accumulator_value: What sums start from.
        eps: Added to the root, or with ``eps_inside_sqrt`` under it.
        eps_inside_sqrt: Divide by ``sqrt(sum + eps)``.
        options: ``weight_decay`` and the others of :class:`SGD`.

    Raises:
        ValueError: Numbers out of range, shapes that do not fit, tables that are read-only.
        TypeError: Tables that cannot be written to (JAX, TensorFlow), ``lr`` that is no number.
    """

    _states = ("sum",)

    def __init__(
        self,
        weights: Table,
        biases: Table | None = None,
        lr: Schedule = 1e-2,
        lr_decay: float = 0.0,
        *,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        eps_inside_sqrt: bool | np.bool = False,
        **options: Unpack[Options],
    ) -> None:
        self._lr_decay = not_negative(lr_decay, "lr_decay")
        super().__init__(
            "adagrad",
            weights,
            biases,
            lr,
            options,
            initial_state=not_negative(initial_accumulator_value, "initial_accumulator_value"),
            eps=eps,
            eps_inside_sqrt=bool(eps_inside_sqrt),
        )

    def _rate(self, lr: float, step: int) -> float:
        return lr / (1.0 + (step - 1) * self._lr_decay)
