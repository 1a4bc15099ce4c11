"""Lazy Adam."""

from __future__ import annotations

from typing import Any

from fastnce._seed import Seed
from fastnce.optim._adam import two_betas
from fastnce.torch.optim._base import Optimizer


class Adam(Optimizer):
    """Lazy Adam: ``torch.optim.SparseAdam``, with decoupled weight decay and dense gradients, too.

    ::

        m = beta1 m + (1 - beta1) g
        v = beta2 v + (1 - beta2) g^2
        w = (1 - lr weight_decay) w - lr sqrt(1 - beta2^step) / (1 - beta1^step) m / (sqrt(v) + eps)

    The moments of a row without a gradient stay as they are, where ``torch.optim.Adam`` would let them decay and go on
    moving the row.

    Args:
        params: As :class:`SGD` has them.
        lr: Learning rate.
        betas: Decay of the first and of the second moment, in [0, 1).
        eps: Added to ``sqrt(v)``, or with ``eps_corrected`` to ``sqrt(v / (1 - beta2^step))``.
        weight_decay: As :class:`SGD` has it: that of ``torch.optim.AdamW``.
        eps_corrected: Add ``eps`` after the bias correction, as ``torch.optim.Adam`` does.
        stochastic_rounding: As :class:`SGD` has it.
        seed: Of the rounding.

    Raises:
        ValueError: Options out of range.
        TypeError: Parameters whose dtype is not supported.
    """

    _kind, _states = "adam", ("exp_avg", "exp_avg_sq")

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        *,
        weight_decay: float = 0.0,
        eps_corrected: bool = False,
        stochastic_rounding: bool = True,
        seed: Seed = 1,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "eps_corrected": eps_corrected}
        super().__init__(params, defaults, weight_decay, stochastic_rounding, seed)

    def _numbers(self, group: dict[str, Any], step: int) -> dict[str, Any]:
        beta1, beta2 = two_betas(group["betas"])
        names = ("lr", "weight_decay", "eps", "eps_corrected")
        return {"beta1": beta1, "beta2": beta2, **{name: group[name] for name in names}}
