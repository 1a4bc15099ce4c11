"""Gradient descent."""

from __future__ import annotations

from typing import Unpack

from fastnce._errors import number
from fastnce._types import Table
from fastnce.optim._base import Optimizer, Options, Schedule


class SGD(Optimizer):
    """Stochastic gradient descent: ``torch.optim.SGD``, for the rows that a step touches.

    ::

        v = momentum v + g              with momentum; else v = g
        w = (1 - lr weight_decay) w - lr v

    The velocity of a row that is not touched stays as it is, where a dense optimizer would let it decay and go on
    moving the row.

    Args:
        weights: ``[V, D]`` table, rows contiguous, or a list of shards; float32, float64, float16 or bfloat16. Updated
            in place; may be a writable memory map.
        biases: ``[V]``, or a list of shards; ``None``: no biases.
        lr: Learning rate, or a function of the step's number, from 1, that returns it.
        momentum: Factor of the velocity.
        weight_decay: Decoupled from the gradient, as in AdamW; of the rows that are touched.
        partition_strategy: How shards divide the classes: ``"div"`` (blocks) or ``"mod"`` (round robin).
        stochastic_rounding: Round rows of 16 bits up or down at random, so that small steps are not lost; ``False``
            rounds to nearest. float32 and float64 are not concerned.
        seed: Of the rounding.
        state: A saved :attr:`state` to go on from.

    Raises:
        ValueError: Numbers out of range, shapes that do not fit, tables that are read-only.
        TypeError: Tables that cannot be written to (JAX, TensorFlow), ``lr`` that is no number.
    """

    def __init__(
        self,
        weights: Table,
        biases: Table | None = None,
        lr: Schedule = 1e-3,
        momentum: float = 0.0,
        **options: Unpack[Options],
    ) -> None:
        momentum = number(momentum, "momentum")
        self._states = ("momentum_buffer",) if momentum else ()  # type: ignore[misc]
        super().__init__(
            "momentum" if momentum else "sgd",
            weights,
            biases,
            lr,
            options,
            momentum=momentum,
        )
