"""Row-wise Adagrad."""

from __future__ import annotations

from typing import Unpack

import numpy as np

from fastnce._errors import not_negative
from fastnce._types import Table
from fastnce.optim._base import Optimizer, Options, Schedule


class RowwiseAdagrad(Optimizer):
    """Adagrad with one sum for a row: FBGEMM's ``EXACT_ROWWISE_ADAGRAD``.

    ::

        sum = sum + mean(g^2)           over the D elements of the row
        w = (1 - lr weight_decay) w - lr g / (sqrt(sum) + eps)

    Its state is ``[V]``, a D-th of that of :class:`Adagrad`.

    Args:
        weights: ``[V, D]`` table; as :class:`SGD` has it.
        biases: ``[V]``, or a list of shards; ``None``: no biases. A bias is a row of one element.
        lr: Learning rate, or a function of the step's number, from 1, that returns it.
        initial_accumulator_value: What sums start from.
        eps: Added to the root, or with ``eps_inside_sqrt`` under it. FBGEMM has 1e-8, TorchRec 1e-10.
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
        *,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-8,
        eps_inside_sqrt: bool | np.bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(
            "rowwise_adagrad",
            weights,
            biases,
            lr,
            options,
            initial_state=not_negative(initial_accumulator_value, "initial_accumulator_value"),
            eps=eps,
            eps_inside_sqrt=bool(eps_inside_sqrt),
        )
