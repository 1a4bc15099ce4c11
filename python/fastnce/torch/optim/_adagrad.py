"""Adagrad."""

from __future__ import annotations

from typing import Any

from fastnce._errors import not_negative, number
from fastnce._seed import Seed
from fastnce.torch.optim._base import Optimizer


class Adagrad(Optimizer):
    """Adagrad: ``torch.optim.Adagrad``, for the rows that a gradient has.

    ::

        sum = sum + g^2
        w = (1 - lr weight_decay) w - lr / (1 + (step - 1) lr_decay) g / (sqrt(sum) + eps)

    Args:
        params: As :class:`SGD` has them.
        lr: Learning rate.
        lr_decay: The rate falls with ``1 / (1 + (step - 1) lr_decay)``.
        weight_decay: As :class:`SGD` has it: decoupled, where ``torch.optim.Adagrad`` adds it to the gradient.
        initial_accumulator_value: What sums start from.
        eps: Added to the root, or with ``eps_inside_sqrt`` under it.
        eps_inside_sqrt: Divide by ``sqrt(sum + eps)``, as Keras does.
        stochastic_rounding: As :class:`SGD` has it.
        seed: Of the rounding.

    Raises:
        ValueError: Options out of range.
        TypeError: Parameters whose dtype is not supported.
    """

    _kind, _states = "adagrad", ("sum",)

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        *,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        eps_inside_sqrt: bool = False,
        stochastic_rounding: bool = True,
        seed: Seed = 1,
    ) -> None:
        defaults = {
            "lr": lr,
            "lr_decay": lr_decay,
            "initial_accumulator_value": initial_accumulator_value,
            "eps": eps,
            "eps_inside_sqrt": eps_inside_sqrt,
        }
        super().__init__(params, defaults, weight_decay, stochastic_rounding, seed)

    def _numbers(self, group: dict[str, Any], step: int) -> dict[str, Any]:
        not_negative(group["initial_accumulator_value"], "initial_accumulator_value")
        rate = number(group["lr"], "lr") / (1.0 + (step - 1) * not_negative(group["lr_decay"], "lr_decay"))
        names = ("weight_decay", "eps", "eps_inside_sqrt")
        return {"lr": rate, **{name: group[name] for name in names}}
