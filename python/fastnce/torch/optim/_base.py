"""What all optimizers share: groups of parameters, their states, and steps by the core."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from fastnce import _core
from fastnce._devices import Device, cuda_device_of
from fastnce._errors import number
from fastnce._seed import Seed, rounding_seed
from fastnce.torch._kernels import as_array

_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
_NOT_OURS = ("amsgrad", "dampening", "maximize", "nesterov")
"""Options of ``torch.optim`` that change what a step is."""


class Rows(NamedTuple):
    """Gradients of rows of a table and its biases, in any order; a row may occur several times."""

    ids: Tensor
    """int64 ``[n]``."""
    weight: Tensor | None
    """``[n, D]``; ``None``: the biases alone."""
    bias: Tensor | None = None
    """``[n]``; ``None``: the table alone."""


class _Sealed:
    """A state that is loaded. PyTorch would cast a tensor to the dtype of its parameter; of 16 bits, states are not."""

    def __init__(self, state: Tensor) -> None:
        self.state = state


class Optimizer(torch.optim.Optimizer):
    """An optimizer of parameters, each a table with a row for every index of its first axis. Use :class:`SGD`,
    :class:`Adagrad`, :class:`RowwiseAdagrad` or :class:`Adam`.

    A step updates the rows that a sparse gradient has and leaves all others, and their states, as they are. A row that
    occurs several times takes one step, with the sum of its gradients. A dense gradient has all rows.

    Parameters are updated where they are, and their states lie beside them. On a CUDA device the work is queued on
    PyTorch's current stream, and a step does not wait for it. Ids out of range are an error on the CPU; on a CUDA
    device they are left out, and :func:`fastnce.cuda.check` reports them.
    """

    _kind: ClassVar[str]
    """The name in the core."""
    _states: ClassVar[tuple[str, ...]] = ()
    """Names of what is kept for each parameter beside the number of its steps, in the core's order."""

    def __init__(
        self, params: Any, defaults: dict[str, Any], weight_decay: float, stochastic_rounding: bool, seed: Seed
    ) -> None:
        defaults["weight_decay"] = weight_decay
        defaults["rounding_seed"] = rounding_seed(seed) if stochastic_rounding else None
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters, with options of their own where these are in the dictionary.

        Raises:
            ValueError: Options out of range.
            TypeError: Parameters whose dtype is not supported.
        """
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            if callable(group["lr"]):
                raise TypeError("lr is a function: expected a number, which torch.optim.lr_scheduler.LambdaLR sets")
            self._core_of(group, 1, 0, (), None)  # refuses numbers that are out of range
            for param in group["params"]:
                if param.dtype not in _DTYPES:
                    raise TypeError(
                        f"params: a parameter has dtype {param.dtype}: expected float32, float64, float16 or bfloat16"
                    )
        except (TypeError, ValueError):
            self.param_groups.pop()
            raise

    def _form(self, group: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
        """The name in the core, and those of the states, with the options of a group."""
        return self._kind, self._states

    def _numbers(self, group: dict[str, Any], step: int) -> dict[str, Any]:
        """What the core takes, with the names that it has there."""
        return {name: group[name] for name in ("lr", "weight_decay")}

    def _core_of(
        self,
        group: dict[str, Any],
        step: int,
        table: int,
        weight_states: Any,
        bias_states: Any,
        device: Device | None = None,
        steps: Any = (),
    ) -> Any:
        core = _core.Optimizer(self._form(group)[0], weight_states, bias_states, device, steps)
        numbers = {name: number(value, name) for name, value in self._numbers(group, step).items()}
        seed = group["rounding_seed"]
        # Another one for each parameter, so that the rows of two are not rounded alike.
        core.set(step=step, rounding_seed=None if seed is None else (seed + table) % 2**64, **numbers)
        return core

    @torch._disable_dynamo  # a break in compiled graphs
    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make a step with the gradients that the parameters have.

        Args:
            closure: Computes the loss and its gradients again, and returns the loss.

        Returns:
            What ``closure`` returned.

        Raises:
            ValueError: Gradients whose layout or shape is not supported, parameters whose rows are not contiguous.
            TypeError: float64 parameters on a CUDA device.
            NotImplementedError: Parameters on a device that fastnce cannot use.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with ExitStack() as steps:
            # All are ready before the first is made: what is refused, but for ids that are no rows, changes nothing.
            ready = [(steps.enter_context(step), weight, rows) for step, weight, rows in self._updates()]
            for core, weight, rows in ready:
                update_rows(core, weight, None, rows)
        return loss

    def _updates(self) -> Iterator[tuple[AbstractContextManager[Any], Tensor, Rows]]:
        table = 0
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None and param.numel() > 0:
                    device_of(param)
                    weight = _as_table(param.detach())
                    yield self.next_step(group, table, param), weight, _rows_of(param.grad, weight)
                table += 1

    @contextmanager
    def next_step(
        self, group: dict[str, Any], table: int, weight: Tensor | None, bias: Tensor | None = None
    ) -> Iterator[Any]:
        """What the core needs of the next step of a table and its biases. It counts the step once it is made."""
        params = [param for param in (weight, bias) if param is not None]
        states = [self.state_of(param, group) for param in params]
        step = 1 + max(int(state["step"]) for state in states)
        kind, names = self._form(group)
        view = _as_vector if _core.optimizer_states(kind)[1] else _as_table
        of_weight = () if weight is None else tuple(as_array(view(states[0][name])) for name in names)
        of_bias = None if bias is None else tuple(as_array(states[-1][name]) for name in names)
        counts = tuple(state["step"].numpy() for state in states)
        device = device_of(params[0])
        with nullcontext() if device is None else device.current():
            core = self._core_of(group, step, table, of_weight, of_bias, device, counts)
        try:
            yield core
        finally:  # Ctrl-C may come once the step is made
            if counts[0] >= step:
                increment_version(params)

    def state_of(self, param: Tensor, group: dict[str, Any]) -> dict[str, Any]:
        """What is kept for a parameter, where it is and in the dtype that it is updated in."""
        kind, names = self._form(group)
        _, rowwise = _core.optimizer_states(kind)
        dtype = torch.float64 if param.dtype == torch.float64 else torch.float32
        kept: dict[str, Any] = self.state[param]
        kept["step"] = torch.as_tensor(kept.get("step", 0), dtype=torch.int64, device="cpu")  # torch.optim's: float32
        shape = param.shape[:1] if rowwise else param.shape
        for name in names:
            state = kept.get(name)
            if state is None or (state.is_meta and not param.is_meta):
                initial = group.get("initial_accumulator_value", 0.0)
                kept[name] = torch.full(shape, initial, dtype=dtype, device=param.device)
            elif state.shape != shape:
                raise ValueError(
                    f"{name} of a parameter of shape {list(param.shape)} has shape {list(state.shape)}: expected "
                    f"{list(shape)}, as {type(self).__name__} keeps it"
                )
            else:
                kept[name] = state.to(param.device, dtype).to_dense().contiguous()  # torch.optim.SGD's may be sparse
        return kept

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what :meth:`state_dict` returned, or that of the optimizer of ``torch.optim`` with the same states.

        Args:
            state_dict: As :meth:`state_dict` returned it.

        Raises:
            ValueError: Groups of other numbers of parameters; options that this optimizer has not.
        """
        handle = self.register_load_state_dict_pre_hook(_seal)  # last: others may have changed what is loaded
        try:
            super().load_state_dict(state_dict)
        finally:
            handle.remove()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for kept in self.state.values():
            for name, value in kept.items():
                if isinstance(value, _Sealed):
                    kept[name] = value.state
        for group in self.param_groups:
            for name, default in self.defaults.items():
                group.setdefault(name, default)


def _seal(optimizer: torch.optim.Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
    for group in state_dict["param_groups"]:
        for name in _NOT_OURS:
            if group.get(name):
                raise ValueError(f"state_dict has {name} = {group[name]}: {type(optimizer).__name__} has not")
        of_torch = "maximize" in group  # its weight decay is part of the gradient, except AdamW's
        if of_torch and group.get("weight_decay") and not group.get("decoupled_weight_decay"):
            raise ValueError(
                f"state_dict has weight_decay = {group['weight_decay']} of an optimizer of torch.optim, where it is "
                f"part of the gradient: expected 0, since that of {type(optimizer).__name__} is decoupled, as in AdamW"
            )
    sealed = {
        key: {name: _Sealed(value) if isinstance(value, Tensor) else value for name, value in kept.items()}
        for key, kept in state_dict["state"].items()
    }
    return {**state_dict, "state": sealed}


def device_of(param: Tensor) -> Device | None:
    """The CUDA device where the core updates a parameter; ``None``: the CPU. Raises for parameters that it cannot."""
    if param.is_cpu:
        return None
    device = cuda_device_of(param.detach(), "a parameter", 0) if param.is_cuda else None
    if device is None:
        expected = f"the CPU, since {_core.cuda_unavailable_reason()}" if param.is_cuda else "the CPU or a CUDA device"
        raise NotImplementedError(
            f"a parameter is on device {param.device}: expected {expected}; use an optimizer of torch.optim"
        )
    if param.dtype == torch.float64:
        raise TypeError(
            f"a parameter on device {param.device} has dtype {param.dtype}: expected float32, float16 or bfloat16 on a "
            "CUDA device"
        )
    return device


def update_rows(core: Any, weight: Tensor, bias: Tensor | None, rows: Rows) -> None:
    """Lets the core update rows of a table ``[V, D]`` and its biases ``[V]``."""
    fields = {
        "weights": as_array(weight),
        "biases": None if bias is None else as_array(bias),
        "partition_strategy": "div",
        "device": device_of(weight),
    }
    of_weight, of_bias = as_array(rows.weight), as_array(rows.bias)
    if fields["device"] is None:
        core.update_rows(fields, as_array(rows.ids), of_weight, of_bias)
        return
    given = as_array(rows.ids), None if of_weight is None else of_weight.contiguous(), of_bias
    with fields["device"].call(*given):
        core.update_rows(fields, *given)


def _as_table(param: Tensor) -> Tensor:
    """As ``[V, D]``, in the same memory."""
    if param.is_neg():  # a step would update a copy
        raise ValueError("a parameter is a negative view: expected one in memory; call resolve_neg()")
    if param.dim() > 1 and not all(size == 1 for size in param.shape[1:]) and not param[0].is_contiguous():
        raise ValueError(
            f"a parameter of shape {list(param.shape)} has strides {list(param.stride())}: expected contiguous rows; "
            "call contiguous()"
        )
    return param.view(1, 1) if param.dim() == 0 else param.view(len(param), -1)


def _as_vector(state: Tensor) -> Tensor:
    return state.view(-1)


def _rows_of(grad: Tensor, weight: Tensor) -> Rows:
    """The gradients of a parameter as those of rows of its table."""
    if grad.layout == torch.strided:
        return Rows(torch.arange(len(weight), device=weight.device), grad.detach().reshape(weight.shape))
    if grad.layout != torch.sparse_coo or grad.sparse_dim() != 1:
        axes = f" with {grad.sparse_dim()} sparse axes" if grad.layout == torch.sparse_coo else ""
        raise ValueError(
            f"a gradient has layout {grad.layout}{axes}: expected a dense one, or torch.sparse_coo with one sparse "
            "axis, that of rows"
        )
    values = grad._values().detach()
    return Rows(grad._indices()[0], values.reshape(len(values), weight.shape[1]))
