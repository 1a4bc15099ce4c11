"""Row-wise Adagrad."""

from __future__ import annotations

from typing import Any

from fastnce._errors import not_negative
from fastnce._seed import Seed
from fastnce.torch.optim._base import Optimizer


class RowwiseAdagrad(Optimizer):
    """Adagrad with one sum for a row: FBGEMM's ``EXACT_ROWWISE_ADAGRAD``, TorchRec's ``RowWiseAdagrad``.

    ::

        sum = sum + mean(g^2)           over the elements of the row
        w = (1 - lr weight_decay) w - lr g / (sqrt(sum) + eps)

    Of a table ``[V, D]`` its state is ``[V]``, a D-th of that of :class:`Adagrad`.

    Args:
        params: As :class:`SGD` has them.
        lr: Learning rate.
        weight_decay: As :class:`SGD` has it.
        initial_accumulator_value: What sums start from.
        eps: Added to the root, or with ``eps_inside_sqrt`` under it. FBGEMM has 1e-8, TorchRec 1e-10.
        eps_inside_sqrt: Divide by ``sqrt(sum + eps)``.
        stochastic_rounding: As :class:`SGD` has it.
        seed: Of the rounding.

    Raises:
        ValueError: Options out of range.
        TypeError: Parameters whose dtype is not supported.
    """

    _kind, _states = "rowwise_adagrad", ("sum",)

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        *,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-8,
        eps_inside_sqrt: bool = False,
        stochastic_rounding: bool = True,
        seed: Seed = 1,
    ) -> None:
        defaults = {
            "lr": lr,
            "initial_accumulator_value": initial_accumulator_value,
            "eps": eps,
            "eps_inside_sqrt": eps_inside_sqrt,
        }
        super().__init__(params, defaults, weight_decay, stochastic_rounding, seed)

    def _numbers(self, group: dict[str, Any], step: int) -> dict[str, Any]:
        not_negative(group["initial_accumulator_value"], "initial_accumulator_value")
        return {name: group[name] for name in ("lr", "weight_decay", "eps", "eps_inside_sqrt")}
