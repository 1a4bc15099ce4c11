"""The optimizers: their arguments. Formulas, numbers and states are those of the classes of :mod:`fastnce.optim`."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

from fastnce import optim
from fastnce.jax.optim._base import Optimizer, Schedule


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent, with momentum if that is not 0: :class:`fastnce.optim.SGD`.

    Args:
        lr: The learning rate, which may be traced, or a function of the step's number, from 1, that returns it.
        momentum: Factor of the velocity. State of each table: ``momentum_buffer``, of its shape; without, none.
        weight_decay: Decoupled from the gradient, as in AdamW; of the rows that are touched.
        stochastic_rounding: Round rows of 16 bits up or down at random, so that small steps are not lost; ``False``
            rounds to nearest.
        seed: Of the rounding.

    Raises:
        ValueError: Numbers out of range.
        TypeError: What is no number, or a traced one in place of one that is compiled in.
    """

    _of: ClassVar = optim.SGD
    lr: Schedule = 1e-3
    momentum: float = 0.0


@dataclass(frozen=True)
class Adagrad(Optimizer):
    """Adagrad: :class:`fastnce.optim.Adagrad`, which has the formula and TensorFlow's and Keras's forms of it.

    ``optax.adagrad(lr)`` is ``initial_accumulator_value=0.1, eps=1e-7, eps_inside_sqrt=True``.

    Args:
        lr: The learning rate, which may be traced, or a function of the step's number, from 1, that returns it.
        lr_decay: The rate falls with ``1 / (1 + (step - 1) lr_decay)``.
        initial_accumulator_value: What sums start from. State of each table: ``sum``, of its shape.
        eps: Added to the root, or with ``eps_inside_sqrt`` under it.
        eps_inside_sqrt: Divide by ``sqrt(sum + eps)``.

    ``weight_decay``, ``stochastic_rounding``, ``seed`` and the errors are those of :class:`SGD`.
    """

    _of: ClassVar = optim.Adagrad
    lr: Schedule = 1e-2
    lr_decay: float = 0.0
    _: KW_ONLY
    initial_accumulator_value: float = 0.0
    eps: float = 1e-10
    eps_inside_sqrt: bool = False


@dataclass(frozen=True)
class RowwiseAdagrad(Optimizer):
    """Adagrad with one sum for a row: :class:`fastnce.optim.RowwiseAdagrad`.

    Args:
        lr: The learning rate, which may be traced, or a function of the step's number, from 1, that returns it.
        initial_accumulator_value: What sums start from. State of each table: ``sum``, ``[V]``.
        eps: Added to the root, or with ``eps_inside_sqrt`` under it.
        eps_inside_sqrt: Divide by ``sqrt(sum + eps)``.

    ``weight_decay``, ``stochastic_rounding``, ``seed`` and the errors are those of :class:`SGD`.
    """

    _of: ClassVar = optim.RowwiseAdagrad
    lr: Schedule = 1e-2
    _: KW_ONLY
    initial_accumulator_value: float = 0.0
    eps: float = 1e-8
    eps_inside_sqrt: bool = False


@dataclass(frozen=True)
class Adam(Optimizer):
    """Lazy Adam, with decoupled weight decay: :class:`fastnce.optim.Adam`.

    ``optax.adam`` and ``optax.adamw`` are ``eps_corrected=True``, where every row is touched in every step.

    Args:
        lr: The learning rate, which may be traced, or a function of the step's number, from 1, that returns it.
        betas: Decay of the first and of the second moment, in [0, 1). State of each table: ``exp_avg`` and
            ``exp_avg_sq``, of its shape.
        eps: Added to ``sqrt(v)``, or with ``eps_corrected`` to ``sqrt(v / (1 - beta2^step))``.
        eps_corrected: Add ``eps`` after the bias correction.

    ``weight_decay``, ``stochastic_rounding``, ``seed`` and the errors are those of :class:`SGD`.
    """

    _of: ClassVar = optim.Adam
    lr: Schedule = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    _: KW_ONLY
    eps: float = 1e-8
    eps_corrected: bool = False
