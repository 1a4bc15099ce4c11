"""Updates of a module's table in the backward pass: the optimizer that it owns, and when an update is made.

The optimizer is one of torch.optim's kind, so that schedulers find its groups. Its ``step()`` has nothing to do, since
the parameters have no gradients. What it keeps is in the module's ``state_dict``, as tensors of the table are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fastnce._errors import is_a, not_negative
from fastnce.torch._state import are_calls
from fastnce.torch.optim import Optimizer
from fastnce.torch.optim._base import Rows, device_of, update_rows

MakeOptimizer: TypeAlias = Callable[[list[nn.Parameter]], Optimizer]
"""A class of :mod:`fastnce.torch.optim`, or one with options, by ``functools.partial``."""


class Update:
    """What the backward pass of one loss does to the tables, once."""

    def __init__(self, optimizer: Optimizer, weight: Tensor, bias: Tensor | None) -> None:
        self._optimizer = optimizer
        self._tables = weight, bias
        self._receive = [table is not None and table.requires_grad for table in self._tables]
        self._versions = self._now()
        self._is_made = False

    def _now(self) -> list[int]:
        return [-1 if table is None else table._version for table in self._tables]

    def require_first(self) -> None:
        """Raises RuntimeError where an update would be another one than that of this loss."""
        if torch.is_grad_enabled():
            raise RuntimeError(
                "cannot differentiate twice: expected create_graph=False where the backward pass updates the table"
            )
        if self._is_made:
            raise RuntimeError(
                "the backward pass of this loss has updated the table already: expected one backward pass for each "
                "call of the module"
            )
        if self._versions != self._now():
            raise RuntimeError(
                "the table was changed after the loss was computed, by another backward pass or in place: expected "
                "loss.backward() before the module is called again; losses that share a backward pass are one call "
                "with the examples of all"
            )
        params = self._optimizer.param_groups[0]["params"]
        if any(table is not None and all(table is not param for param in params) for table in self._tables):
            raise RuntimeError(
                "the module has another table than when the loss was computed: expected loss.backward() before "
                "parameters are loaded or assigned"
            )

    @property
    def updated(self) -> tuple[Tensor | None, Tensor | None]:
        """The tables that it updates. Those that were frozen when the loss was computed, or are now, stay."""
        weight, bias = (
            table if receives and table is not None and table.requires_grad else None
            for table, receives in zip(self._tables, self._receive, strict=True)
        )
        return weight, bias

    @contextmanager
    def step(self) -> Iterator[Any]:
        """What the core needs of the step; ``None`` where all tables are frozen."""
        weight, bias = self.updated
        if weight is None and bias is None:
            yield None
            return
        with self._optimizer.next_step(self._optimizer.param_groups[0], 0, weight, bias) as core:
            yield core
        self._is_made = True
        self._optimizer._opt_called = True  # or schedulers would warn that step() was not called

    def make(self, rows: Rows) -> None:
        """Makes it with gradients that were computed before."""
        weight, bias = self.updated
        own = Rows(rows.ids, None if weight is None else rows.weight, None if bias is None else rows.bias)
        with self.step() as core:
            if core is not None:
                update_rows(core, *self._tables, own)


class OwnOptimizer(nn.Module):
    """A module with a weight, perhaps a bias, and an optimizer that may be theirs."""

    weight: Tensor
    bias: Tensor | None
    optimizer: Optimizer | None = None

    def _make_optimizer(self, make: MakeOptimizer | None) -> None:
        if make is None:
            return
        remedy = "expected None, or what makes one: functools.partial(fastnce.torch.optim.Adagrad, lr=0.1)"
        if not callable(make):
            raise TypeError(f"optimizer {is_a(make)}: {remedy}")
        made = make([table for _, table in self._own_tables()])
        if not isinstance(made, Optimizer):
            raise TypeError(f"optimizer made a {type(made).__module__}.{type(made).__qualname__}: {remedy}")
        if len(made.param_groups) != 1:
            raise ValueError(f"optimizer made {len(made.param_groups)} groups: expected one, of weight and bias")
        self.optimizer = made

    def _own_tables(self) -> Iterator[tuple[str, nn.Parameter]]:
        for name in ("weight", "bias"):
            table = getattr(self, name)
            if table is not None and not isinstance(table, nn.Parameter):
                raise RuntimeError(
                    f"{name} is computed: expected a parameter of the module, which an optimizer updates"
                )
            if table is not None:
                yield name, table

    def _own_optimizer(self) -> Optimizer | None:
        """The optimizer, of the parameters that the module has now: they may have been assigned, or loaded."""
        optimizer = self.optimizer
        if optimizer is None:
            return None
        params = optimizer.param_groups[0]["params"]
        tables = [table for _, table in self._own_tables()]
        if len(tables) != len(params):
            raise RuntimeError(f"the module has {len(tables)} tables: expected the {len(params)} that it was made with")
        for at, (old, new) in enumerate(zip(params, tables, strict=True)):
            if old is not new:
                params[at] = new
                if old in optimizer.state:
                    optimizer.state[new] = optimizer.state.pop(old)
        return optimizer

    def _makes_updates(self) -> bool:
        """Whether losses that are computed now update the table in their backward pass."""
        if self.optimizer is None or not self.training or not torch.is_grad_enabled():
            return False
        if DistributedDataParallel._active_ddp_module is not None:
            raise RuntimeError(
                f"optimizer: expected no DistributedDataParallel around {type(self).__name__}, since each process "
                "would update a table of its own; use a loss of fastnce.torch.distributed, or no optimizer here"
            )
        return any(table.requires_grad for _, table in self._own_tables())

    def _update_of(self, weight: Tensor, bias: Tensor | None, eager: bool) -> Update:
        optimizer = self._own_optimizer()
        assert optimizer is not None
        if not eager:
            raise NotImplementedError("optimizer: expected eager mode, or torch.compile, outside of other tracers")
        device_of(weight)  # refuses those that it cannot update
        return Update(optimizer, weight, bias)

    def _forget_steps(self) -> None:
        if self.optimizer is not None:
            self.optimizer.state.clear()

    def _optimizer_entries(self) -> dict[str, Tensor]:
        """What ``state_dict`` holds of the optimizer: what is kept for each table, and the learning rate."""
        optimizer = self._own_optimizer()
        if optimizer is None:
            return {}
        group = optimizer.param_groups[0]
        # Not all that is kept: torch.optim, or other options, may have left more.
        entries = {
            f"optimizer.{table}.{name}": optimizer.state_of(param, group)[name]
            for table, param in self._own_tables()
            for name in ("step", *optimizer._form(group)[1])
        }
        return {"optimizer.lr": torch.tensor(float(group["lr"]), dtype=torch.float64, device="cpu"), **entries}

    def _load_optimizer_entries(self, given: dict[str, Any]) -> dict[str, str]:
        """Sets the optimizer to these entries, what is not given stays; returns what is wrong, by the entry's name."""
        optimizer = self._own_optimizer()
        assert optimizer is not None
        group, own = optimizer.param_groups[0], self._optimizer_entries()
        wrong: dict[str, str] = {}
        for name, value in given.items():
            if not isinstance(value, Tensor) or value.shape != own[name].shape:
                shape = list(value.shape) if isinstance(value, Tensor) else repr(value)
                wrong[name] = f"shape {shape}: expected {list(own[name].shape)}"
            elif name.endswith(".step") and not are_calls(value):
                wrong[name] = f"{value!r}: expected a number of steps, at least 0"
        try:
            rate = not_negative(given.get("optimizer.lr", own["optimizer.lr"]), "the learning rate")
        except (TypeError, ValueError) as error:
            wrong.setdefault("optimizer.lr", str(error))
        if wrong:
            return wrong
        for name, value in given.items():
            if name != "optimizer.lr":
                own[name].copy_(value)
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
        return {}

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination.update({prefix + name: value for name, value in self._optimizer_entries().items()})

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local_metadata: Any, strict: bool, missing_keys: list[str], *lists: Any
    ) -> None:
        if self.optimizer is None:
            super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing_keys, *lists)
            return
        state_dict, names = dict(state_dict), list(self._optimizer_entries())
        given = {name: state_dict.pop(prefix + name) for name in names if prefix + name in state_dict}
        missing = [prefix + name for name in names if strict and name not in given]
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing_keys, *lists)
        missing_keys.extend(missing)
        there = {name: value for name, value in given.items() if not getattr(value, "is_meta", False)}
        wrong = self._load_optimizer_entries(there)
        lists[-1].extend(f"{prefix}{name}: {what}" for name, what in wrong.items())


@torch._disable_dynamo
def eagerly(call: Callable[..., Tensor], *arguments: Any, **options: Any) -> Tensor:
    """Calls outside of the graph that is compiled, as a break in it."""
    return call(*arguments, **options)
