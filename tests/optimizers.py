"""The table of optimizers: one row for each, in each form that another library has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnce import optim, reference
from tolerances import OPTIMIZER_RELATIVE, relative_error

Array = NDArray[Any]


@dataclass(frozen=True)
class Rule:
    """An optimizer with some options, and its twin."""

    name: str
    """In the ids of tests."""
    optimizer: type[optim.Optimizer]
    twin: Callable[..., Array]
    options: dict[str, Any] = field(default_factory=dict)
    """Of the class; what its twin takes has the same names."""
    defaults: dict[str, Any] = field(default_factory=dict)
    """What the class leaves to its twin's caller."""
    initial: float = 0.0
    """What states start from."""

    def __str__(self) -> str:
        return self.name

    def make(self, weights: Any, biases: Any = None, **options: Any) -> optim.Optimizer:
        return self.optimizer(weights, biases, **self.options | options)

    def numbers(self) -> dict[str, Any]:
        """What the twin takes."""
        given = self.defaults | self.options
        return {name: value for name, value in given.items() if name not in ("initial_accumulator_value", "lr_decay")}


_ADAM = {"betas": (0.9, 0.999), "eps": 1e-8}
_ROWS = (
    Rule("sgd", optim.SGD, reference.sgd, {"lr": 0.1}),
    Rule("sgd_decay", optim.SGD, reference.sgd, {"lr": 0.1, "weight_decay": 0.02}),
    Rule("momentum", optim.SGD, reference.momentum, {"lr": 0.1, "momentum": 0.9}),
    Rule("adagrad", optim.Adagrad, reference.adagrad, {"lr": 0.1}, {"eps": 1e-10}),
    Rule(
        "adagrad_tensorflow",
        optim.Adagrad,
        reference.adagrad,
        {"lr": 0.1, "initial_accumulator_value": 0.1, "eps": 0.0},
        initial=0.1,
    ),
    Rule(
        "adagrad_keras",
        optim.Adagrad,
        reference.adagrad,
        {"lr": 0.1, "initial_accumulator_value": 0.1, "eps": 1e-7, "eps_inside_sqrt": True, "weight_decay": 0.01},
        initial=0.1,
    ),
    Rule("rowwise_adagrad", optim.RowwiseAdagrad, reference.rowwise_adagrad, {"lr": 0.1}, {"eps": 1e-8}),
    Rule(
        "rowwise_adagrad_inside",
        optim.RowwiseAdagrad,
        reference.rowwise_adagrad,
        {"lr": 0.1, "eps": 1e-3, "eps_inside_sqrt": True, "initial_accumulator_value": 0.01},
        initial=0.01,
    ),
    Rule("adam", optim.Adam, reference.adam, {"lr": 0.01}, _ADAM),
    Rule("adam_corrected", optim.Adam, reference.adam, {"lr": 0.01, "eps": 1e-3, "eps_corrected": True}, _ADAM),
    Rule("adam_decay", optim.Adam, reference.adam, {"lr": 0.01, "betas": (0.8, 0.99), "weight_decay": 0.1}, _ADAM),
)
RULES = {rule.name: rule for rule in _ROWS}
EVERY_RULE = list(RULES.values())


class Twin:
    """The tables and states of an optimizer in float64, updated by its rule."""

    def __init__(self, rule: Rule, weights: Array, biases: Array | None = None, **options: Any) -> None:
        self.rule = rule
        self.tables = {"weights": np.asarray(weights, np.float64)}
        if biases is not None:
            self.tables["biases"] = np.asarray(biases, np.float64)
        self.numbers = rule.numbers() | options
        names = rule.make(weights.copy(), None).state
        self.states = {
            table: {
                name.removeprefix("weights."): np.full(
                    values.shape[:1] if rule.optimizer is optim.RowwiseAdagrad else values.shape, rule.initial
                )
                for name in names
                if name != "step"
            }
            for table, values in self.tables.items()
        }
        self.step = 0

    def update_rows(self, ids: Any, rows: Any, bias_rows: Any = None) -> None:
        self.step += 1
        for table, gradients in (("weights", rows), ("biases", bias_rows)):
            if gradients is None:
                continue
            reference.update_rows(
                self.rule.twin, self.tables[table], self.states[table], ids, gradients, step=self.step, **self.numbers
            )

    def assert_same(self, optimizer: Any) -> None:
        """That ``weights``, ``biases`` and ``state`` of an optimizer are these, to rounding."""
        assert optimizer.state["step"] == self.step
        for table, values in self.tables.items():
            ours = np.asarray(getattr(optimizer, table))
            limit = OPTIMIZER_RELATIVE[ours.dtype.name]
            assert relative_error(ours, values) <= limit, table
            for name, state in self.states[table].items():
                assert relative_error(optimizer.state[f"{table}.{name}"], state) <= limit, f"{table}.{name}"
