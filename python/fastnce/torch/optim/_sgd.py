"""Gradient descent."""

from __future__ import annotations

from typing import Any

from fastnce._seed import Seed
from fastnce.torch.optim._base import Optimizer


class SGD(Optimizer):
    """Stochastic gradient descent: ``torch.optim.SGD``, for the rows that a gradient has.

    ::

        v = momentum v + g              with momentum; else v = g
        w = (1 - lr weight_decay) w - lr v

    The velocity of a row without a gradient stays as it is, where ``torch.optim.SGD`` would let it decay and go on
    moving the row.

    Args:
        params: Parameters, named parameters or groups of them, as ``torch.optim`` has them, of float32, float64,
            float16 or bfloat16. Updated in place.
        lr: Learning rate.
        momentum: Factor of the velocity.
        weight_decay: Decoupled from the gradient, as in ``torch.optim.AdamW``; of the rows that have one.
        stochastic_rounding: Round rows of 16 bits up or down at random, so that small steps are not lost; ``False``
            rounds to nearest. float32 and float64 are not concerned.
        seed: Of the rounding.

    Raises:
        ValueError: Options out of range.
        TypeError: Parameters whose dtype is not supported.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        momentum: float = 0.0,
        *,
        weight_decay: float = 0.0,
        stochastic_rounding: bool = True,
        seed: Seed = 1,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum}, weight_decay, stochastic_rounding, seed)

    def _form(self, group: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
        return ("momentum", ("momentum_buffer",)) if group["momentum"] else ("sgd", ())

    def _numbers(self, group: dict[str, Any], step: int) -> dict[str, Any]:
        return {**super()._numbers(group, step), "momentum": group["momentum"]}
