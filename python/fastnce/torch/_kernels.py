"""What the operators compute: each a call of the library. Arguments have the names that the library's errors use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from fastnce import _core
from fastnce._all_classes import run
from fastnce._arrays import like
from fastnce._devices import Device, cuda_device_of
from fastnce._request import compute
from fastnce._samplers._base import on_device
from fastnce.torch._ignored import drop_unused_padding, ignored_examples
from fastnce.torch._sampling import distribution_of
from fastnce.torch._schema import ARRAYS, FACTORS, Fields
from fastnce.torch._shapes import equal_share, loss_dtype, num_true_of

Gradients: TypeAlias = tuple[bool, bool, bool]
"""Which are wanted: of inputs, weights, biases."""


_tables: WeakKeyDictionary[_core.UnigramTable, dict[int, _core.Distribution]] = WeakKeyDictionary()
"""Copies of tables, by the index of the device."""


def _words(seed: Tensor | None) -> tuple[int, int]:
    first, second = (0, 0) if seed is None else seed.tolist()
    return first % 2**64, second % 2**64


def _position(calls: Tensor | int | None) -> tuple[int, Tensor | None]:
    """The number of a call; on a CUDA device a counter in its place, which the device counts up."""
    if calls is None:
        return 0, None
    if isinstance(calls, Tensor) and calls.is_cuda:
        return 0, calls.clone()
    call = int(calls)
    if call < 0:
        raise ValueError(f"calls = {call}: expected at least 0")
    return call, None


def candidates(
    true_classes: Tensor,
    calls: Tensor | int,
    seed: Tensor,
    distribution: str,
    weights: Tensor | None,
    num_sampled: int,
    unique: bool,
    range_max: int,
) -> tuple[Any, ...]:
    """Samples of a distribution as ``_sampling.as_arguments`` gives it."""
    return draw(distribution_of(distribution, weights), true_classes, calls, seed, num_sampled, unique, range_max)


def draw(
    distribution: _core.Distribution,
    true_classes: Tensor,
    calls: Tensor | int,
    seed: Tensor,
    num_sampled: int,
    unique: bool,
    range_max: int,
) -> tuple[Any, ...]:
    """Samples of call number ``calls`` of the stream of ``seed``."""
    first, second = _words(seed)
    sizes = (num_true_of(true_classes), num_sampled, unique, range_max)
    call, counter = _position(calls)
    arguments = (true_classes, *sizes, first, second)
    device = cuda_device_of(true_classes, "true_classes", range_max)
    if device is None:
        return tuple(map(like(true_classes), _core.candidates(distribution, *arguments, call, None, 0)))
    address = 0 if counter is None else counter.data_ptr()
    with device.call():
        values = _core.candidates(_with_table_on(device, distribution), *arguments, 0, device, address)
    return tuple(map(device.hand_over, values))


def _with_table_on(device: Device, distribution: _core.Distribution) -> _core.Distribution:
    """The distribution as kernels read it: a table is copied to the device once."""
    if not isinstance(distribution, _core.UnigramTable):
        return distribution
    copies = _tables.setdefault(distribution, {})
    if device.index not in copies:
        copies[device.index] = on_device(distribution, device)
    return copies[device.index]


def as_array(tensor: Tensor | None) -> Any:
    """A tensor as the core takes it: on the CPU a NumPy array, which costs a quarter of an import by DLPack."""
    if tensor is None:
        return None
    tensor = tensor.detach().resolve_neg()
    return tensor if tensor.dtype == torch.bfloat16 or not tensor.is_cpu else tensor.numpy()


def factors_of_losses(factor: Tensor | float | None, inputs: Tensor) -> Any:
    """Upstream factors as the core takes them, ``grad_loss``: on a CUDA device a number, too, is an array."""
    if isinstance(factor, float) and not inputs.is_cpu:
        factor = inputs.new_full(inputs.shape[:-1], factor, dtype=torch.float32)
    return as_array(factor) if isinstance(factor, Tensor) else factor


def _call(
    fields: Fields, gradients: Gradients = (False, False, False), grad_loss: Any = None, optimizer: Any = None
) -> tuple[Any, ...]:
    """Loss, gradient of inputs, row ids, gradients of weights and biases; ``None`` where not wanted, or taken by an
    optimizer of the core."""
    inputs: Tensor = fields["inputs"]
    grad_loss = factors_of_losses(grad_loss, inputs)
    sampled = fields["sampled_candidates"]
    counts = fields["true_expected_count"], fields["sampled_expected_count"]
    call, counter = _position(fields["calls"])
    request = dict(fields)
    for name in _OF_PYTORCH:
        del request[name]
    for name in ARRAYS:
        array = fields[name]
        if array is not None:
            request[name] = as_array(array)
    for name in FACTORS:
        factor = fields[name]
        if isinstance(factor, Tensor):
            request[name] = as_array(factor) if factor.dim() > 0 else factor.item()  # scalars are numbers
    if fields["all_classes"]:
        return _full_loss(request, gradients, grad_loss)
    request.update(
        sampled_values=None if sampled is None else tuple(map(as_array, (sampled, *counts))),
        seed=_words(fields["seed"]),
        call=call,
        calls=0 if counter is None else counter.data_ptr(),
        gradients=gradients,
        grad_loss=grad_loss,
        optimizer=optimizer,
        # 16-bit gradients are rounded once the upstream factor is known, which may be what keeps them from vanishing.
        grad_dtype=None if inputs.dtype == torch.float64 else "float32",
    )
    if inputs.is_cpu:
        # No result is of 16 bits, and row counts are exact.
        *results, _, _ = _core.compute_loss(request)
        return tuple(None if result is None else torch.from_numpy(result) for result in results)
    request["inputs"] = _whole_rows(request["inputs"])
    return compute(request)


def _whole_rows(inputs: Tensor) -> Tensor:
    """Inputs whose rows are contiguous, as a CUDA device takes them."""
    return inputs.contiguous() if inputs.dim() > 1 and inputs.stride(-1) != 1 else inputs


def _full_loss(request: dict[str, Any], gradients: Gradients, grad_loss: Any) -> tuple[Any, ...]:
    """The same over all classes, without row ids: gradients of tables are dense."""
    inputs: Any = request["inputs"]
    request = {name: value for name, value in request.items() if value is not None}
    request.update(
        gradients=gradients,
        grad_loss=grad_loss,
        grad_dtype=None if str(inputs.dtype).endswith("float64") else "float32",
    )
    loss, grad_inputs, *tables, _ = over_all_classes(_core.full_loss, request, None, None)
    return loss, grad_inputs, None, *tables


def over_all_classes(compute_all: Callable[..., Any], request: dict[str, Any], *options: Any) -> tuple[Any, ...]:
    """What the core computes, as tensors where the inputs are."""
    if isinstance(request["inputs"], Tensor) and not request["inputs"].is_cpu:
        request["inputs"] = _whole_rows(request["inputs"])
    results, _ = run(compute_all, request, *options)
    arrays = results if isinstance(results, tuple) else (results,)
    return tuple(torch.from_numpy(array) if isinstance(array, np.ndarray) else array for array in arrays)


def _evaluated(
    input: Tensor, weight: Tensor, bias: Tensor | None, exclude: Tensor | None, offsets: Tensor | None, precision: Any
) -> dict[str, Any]:
    tensors = {"inputs": input, "weights": weight, "biases": bias, "exclude": exclude, "exclude_offsets": offsets}
    return {**{name: as_array(tensor) for name, tensor in tensors.items()}, "precision": precision}


def top_k(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    k: int,
    exclude: Tensor | None,
    offsets: Tensor | None,
    precision: str,
) -> tuple[Tensor, Tensor]:
    """Scores and ids ``[..., k]``."""
    scores, ids = over_all_classes(_core.top_k, _evaluated(input, weight, bias, exclude, offsets, precision), k, None)
    return scores, ids


def rank_of_labels(
    input: Tensor,
    target: Tensor,
    target_offsets: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    exclude: Tensor | None,
    offsets: Tensor | None,
    ignore_index: int | None,
    precision: str,
) -> Tensor:
    """Ranks in the shape of the target."""
    fields = _evaluated(input, weight, bias, exclude, offsets, precision)
    fields.update(labels=as_array(target), label_offsets=as_array(target_offsets), padding=ignore_index)
    (ranks,) = over_all_classes(_core.rank_of_labels, fields, None)
    tensor: Tensor = ranks
    return tensor


_OF_PYTORCH = ("sampled_candidates", "true_expected_count", "sampled_expected_count", "sparse", "all_classes")


def loss(fields: Fields) -> Tensor:
    """The loss of each example, ``[...]``."""
    result: Tensor = _call(fields)[0]
    return result


def update(fields: Fields, grad_loss: Tensor, gradients: Gradients, optimizer: Any) -> Tensor | None:
    """Lets an optimizer of the core update the tables; returns the gradient of the inputs, if it is wanted."""
    grad_inputs: Tensor | None = _call(fields, gradients, grad_loss, optimizer)[1]
    return grad_inputs


def loss_and_grad(fields: Fields, grad_loss: Tensor | None, mean: bool, gradients: Gradients) -> tuple[Any, ...]:
    """Sum or mean of the losses, or their sum times ``grad_loss``, and its gradients: ``None`` where not wanted."""
    if mean and fields["padding"] is not None:
        drop_unused_padding(fields)
    factor: Any = share_of_mean(fields, reads=True) if mean else grad_loss
    losses, *results = _call(fields, gradients, factor)
    return (losses if factor is None else losses.mul_(factor)).sum(), *results


def share_of_mean(fields: Fields, *, reads: bool) -> float | Tensor:
    """The factor of each loss in the mean over the examples that have a class; a number where classes are read."""
    inputs: Tensor = fields["inputs"]
    if fields["padding"] is None and fields["label_offsets"] is None:
        return equal_share(inputs)
    ignored = ignored_examples(fields)
    if ignored is None:
        return equal_share(inputs)
    count = (~ignored).sum().clamp(min=1)  # without an example left the mean is 0, not 0 / 0
    if reads and count.is_cpu:
        return 1 / int(count)
    return (~ignored).to(loss_dtype(inputs)) / count
