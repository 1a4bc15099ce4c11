"""Checks of the arguments before anything is counted or computed: what they are, dtypes, devices.

Shapes and values are checked by the library, under the names that the NumPy functions use.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from fastnce._errors import is_a
from fastnce._seed import Seed, int64, seed_words
from fastnce._types import Precision, SampledValues

Reduction: TypeAlias = Literal["mean", "sum", "none"]
SamplerName: TypeAlias = Literal["log_uniform"]
TrueTarget: TypeAlias = Literal["mean", "one"]

# Constants, because torch.compile in PyTorch 2.6 cannot trace get_args, nor `tuple | list` below.
REDUCTIONS, PRECISIONS, SAMPLERS = get_args(Reduction), get_args(Precision), get_args(SamplerName)
TRUE_TARGETS = get_args(TrueTarget)
_PLAIN = (Tensor, torch.nn.Parameter)
FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def require_option(name: str, value: object, options: tuple[str, ...]) -> None:
    """Raises ValueError for what is none of the options."""
    if value not in options:
        *most, last = map(repr, options)
        expected = f"{', '.join(most)} or {last}" if most else last
        raise ValueError(f"{name} = {value!r}: expected {expected}")


def require_flag(name: str, value: Any) -> bool:
    """A bool; raises TypeError for anything else."""
    if not isinstance(value, (bool, np.bool)):
        raise TypeError(f"{name} {is_a(value)}: expected a bool")
    return bool(value)


def require_tensors(**tensors: Any) -> None:
    """Raises TypeError, naming the argument, for what is no tensor with strides."""
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} {is_a(tensor)}: expected a torch.Tensor")
        if tensor.layout is not torch.strided:
            call = "values" if tensor.layout is torch.jagged else "to_dense"
            raise TypeError(f"{name} has layout {tensor.layout}: expected torch.strided; call {name}.{call}()")


def require_integers(name: str, tensor: Tensor, remedy: str = "") -> None:
    """Raises TypeError for a tensor of anything but integers."""
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        raise TypeError(f"{name} has dtype {tensor.dtype}: expected integers{remedy}")


def require_floats(name: str, tensor: Tensor) -> None:
    """Raises TypeError for a tensor of anything but floating-point numbers."""
    if tensor.dtype not in FLOATS:
        raise TypeError(f"{name} has dtype {tensor.dtype}: expected float32, float64, float16 or bfloat16")


def require_device(device: torch.device, decided_by: str, **tensors: Tensor | None) -> None:
    """Raises ValueError for a tensor on another device."""
    for name, tensor in tensors.items():
        if tensor is not None and tensor.device != device:
            raise ValueError(f"{name} is on device {tensor.device}: expected {device}, the device of {decided_by}")


def require_loss_arguments(
    input: Tensor, target: Tensor, weight: Tensor, bias: Tensor | None, reduction: str, ignore_index: int | None
) -> None:
    """Checks what all losses take."""
    require_option("reduction", reduction, REDUCTIONS)
    if ignore_index is not None:
        int64(ignore_index, "ignore_index")
    if _are_usual(input, target, weight, bias):
        return
    floats = [("input", input), ("weight", weight)]
    if bias is not None:
        floats.append(("bias", bias))
    require_tensors(input=input, target=target)
    require_tensors(**dict(floats[1:]))
    swapped = "" if input.is_floating_point() else "; input comes before target"
    require_integers("target", target, swapped)
    for name, tensor in floats:
        require_floats(name, tensor)
    for name, tensor in floats[1:]:
        require_mixable(name, tensor, input)
    require_device(input.device, "input", target=target, weight=weight, bias=bias)
    if input.dim() == 0:
        raise ValueError("input has shape []: expected [B, D]")


def _are_usual(input: Tensor, target: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether there is nothing to refuse, as far as is seen quickly: the checks by name take three times as long."""
    for tensor in (input, target, weight) if bias is None else (input, target, weight, bias):
        if not isinstance(tensor, Tensor) or tensor.layout is not torch.strided or tensor.device != input.device:
            return False
    dtype = input.dtype
    same = weight.dtype == dtype and (bias is None or bias.dtype == dtype)
    return same and dtype in FLOATS and target.dtype == torch.int64 and input.dim() > 0


def require_mixable(name: str, table: Tensor, input: Tensor) -> None:
    """Raises TypeError where just one of a table and the input is float64."""
    wide_input = input.dtype == torch.float64
    if (table.dtype == torch.float64) == wide_input:
        return
    expected, wide = ("torch.float64, too", "input") if wide_input else ("float32, float16 or bfloat16", name)
    raise TypeError(
        f"{name} has dtype {table.dtype} but input has dtype {input.dtype}: expected {expected}; call {wide}.float()"
    )


def require_example_weight(name: str, factors: Tensor | None, input: Tensor) -> None:
    """Checks the factors of the examples' losses, which have a name of their own in each loss."""
    if factors is None:
        return
    require_tensors(**{name: factors})
    if factors.is_complex():
        raise TypeError(f"{name} has dtype {factors.dtype}: expected real numbers")
    if factors.shape != input.shape[:-1]:
        letters = "[B]" if input.dim() == 2 else "the shape of input without its last axis"
        raise ValueError(f"{name} has shape {list(factors.shape)}: expected {letters} = {list(input.shape[:-1])}")
    require_device(input.device, "input", **{name: factors})


def require_sampled_values(sampled_values: Any, device: torch.device) -> None:
    """Raises TypeError or ValueError for what is no ``SampledValues`` of tensors on ``device``."""
    if not isinstance(sampled_values, (tuple, list)):
        raise TypeError(f"sampled_values {is_a(sampled_values)}: expected three tensors, {SampledValues._fields}")
    if len(sampled_values) != 3:
        raise ValueError(
            f"sampled_values has {len(sampled_values)} values: expected three tensors, {SampledValues._fields}"
        )
    named = dict(zip(SampledValues._fields, sampled_values, strict=True))
    if sampled_values[1] is None and sampled_values[2] is None:  # no log Q
        named = {"sampled_candidates": sampled_values[0]}
    require_tensors(**named)
    require_integers("sampled_candidates", named["sampled_candidates"])
    require_device(device, "input", **named)
    require_constants(**named)


def require_constants(**tensors: Tensor) -> None:
    """Raises ValueError for a tensor whose gradient would be lost."""
    for name, tensor in tensors.items():
        if tensor.requires_grad:
            raise ValueError(f"{name} requires a gradient, which the loss does not have: pass {name}.detach()")


def require_module_options(
    reduction: Any, precision: Any, true_target: Any = None, ignore_index: Any = None, dtype: Any = None
) -> None:
    """What modules take when they are made. ``None`` is the default of each but the first."""
    require_option("reduction", reduction, REDUCTIONS)
    if precision is not None:
        require_option("precision", precision, PRECISIONS)
    if true_target is not None:
        require_option("true_target", true_target, TRUE_TARGETS)
    if ignore_index is not None:
        int64(ignore_index, "ignore_index")
    if dtype is not None and dtype not in FLOATS:
        raise TypeError(f"dtype is {dtype}: expected float32, float64, float16 or bfloat16")


def require_number(name: str, value: Any, table: Tensor) -> float:
    """A number that is finite in the dtype of the loss of this table."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} {is_a(value)}: expected a number")
    try:
        number = float(value)
    except OverflowError:  # an integer
        number, got = math.inf, " is an integer too large for a float"
    else:
        got = f" = {number:g}"
    dtype = torch.float64 if table.dtype == torch.float64 else torch.float32
    largest = torch.finfo(dtype).max
    if not abs(number) <= largest:
        kind = str(dtype).removeprefix("torch.")
        raise ValueError(f"{name}{got}: expected a finite number of {kind}, at most {largest:g} in magnitude")
    return number


def require_factor(name: str, value: Any, input: Tensor) -> Any:
    """A weight of the loss as operators take it: a number, or a tensor ``[B]``; ``None`` for 1."""
    if not isinstance(value, Tensor):
        number = require_number(name, value, input)
        return None if number == 1 else number
    require_example_weight(name, value, input)
    require_constants(**{name: value})
    return value.to(torch.float64 if input.dtype == torch.float64 else torch.float32)


def is_eager(*tensors: Tensor) -> bool:
    """Whether tensors are just memory, and nothing records what is done with them."""
    if torch.compiler.is_compiling() or is_in_torch_dispatch_mode():
        return False
    return all([type(tensor) in _PLAIN and not tensor.is_meta for tensor in tensors])


def seed_tensor(seed: Seed) -> Tensor:
    """A seed's two 64-bit words as the operators take them."""
    return torch.tensor(int64_words(seed_words(seed)), dtype=torch.int64, device="cpu")


def int64_words(words: Iterable[int]) -> list[int]:
    """Unsigned words as int64 holds them."""
    return [word - 2**64 if word >= 2**63 else word for word in words]
