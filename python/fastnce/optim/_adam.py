"""Lazy Adam."""

from __future__ import annotations

from typing import Any, Unpack

import numpy as np

from fastnce._errors import number
from fastnce._types import Table
from fastnce.optim._base import Optimizer, Options, Schedule


def two_betas(betas: Any) -> tuple[float, float]:
    """The argument of the same name as two numbers."""
    try:
        beta1, beta2 = betas
    except (TypeError, ValueError):
        raise TypeError(f"betas = {betas!r}: expected two numbers") from None
    return number(beta1, "betas[0]"), number(beta2, "betas[1]")


class Adam(Optimizer):
    """Lazy Adam: ``torch.optim.SparseAdam``, with decoupled weight decay.

    ::

        m = beta1 m + (1 - beta1) g
        v = beta2 v + (1 - beta2) g^2
        w = (1 - lr weight_decay) w - lr sqrt(1 - beta2^step) / (1 - beta1^step) m / (sqrt(v) + eps)

    The moments of a row that is not touched stay as they are. Where :class:`RowwiseAdagrad` is as good it needs a
    2D-th of the state.

    Args:
        weights: ``[V, D]`` table; as :class:`SGD` has it.
        biases: ``[V]``, or a list of shards; ``None``: no biases.
        lr: Learning rate, or a function of the step's number, from 1, that returns it.
        betas: Decay of the first and of the second moment, in [0, 1).
        eps: Added to ``sqrt(v)``, or with ``eps_corrected`` to ``sqrt(v / (1 - beta2^step))``, as in
            ``torch.optim.Adam`` and FBGEMM. TensorFlow Addons' ``LazyAdam`` has 1e-7.
        eps_corrected: Add ``eps`` after the bias correction.
        options: ``weight_decay`` and the others of :class:`SGD`.

    Raises:
        ValueError: Numbers out of range, shapes that do not fit, tables that are read-only.
        TypeError: Tables that cannot be written to (JAX, TensorFlow), ``lr`` that is no number.
    """

    _states = ("exp_avg", "exp_avg_sq")

    def __init__(
        self,
        weights: Table,
        biases: Table | None = None,
        lr: Schedule = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        *,
        eps: float = 1e-8,
        eps_corrected: bool | np.bool = False,
        **options: Unpack[Options],
    ) -> None:
        beta1, beta2 = two_betas(betas)
        super().__init__(
            "adam",
            weights,
            biases,
            lr,
            options,
            beta1=beta1,
            beta2=beta2,
            eps=eps,
            eps_corrected=bool(eps_corrected),
        )
