"""What the operators compute: each a call of the library. Arguments have the names that the library's errors use."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastnce import _core
from fastnce._arrays import like
from fastnce._devices import cuda_device_of
from fastnce._request import compute

# Positions among the arguments that the two losses have in common; the first TENSORS of them are tensors or None.
WEIGHTS, BIASES, LABELS, INPUTS, NUM_SAMPLED, NUM_TRUE, SPARSE, PAD_ROWS = 0, 1, 2, 3, 9, 11, 14, 15
TENSORS = 9


def num_true_of(classes: Tensor) -> int:
    return classes.shape[1] if classes.dim() == 2 else 1


def _words(seed: Tensor | None) -> tuple[int, int]:
    first, second = (0, 0) if seed is None else seed.tolist()
    return first % 2**64, second % 2**64


def _position(calls: Tensor | None) -> tuple[int, Tensor | None]:
    """The number of a call; on a CUDA device a counter in its place, which the device counts up."""
    if calls is None:
        return 0, None
    if calls.is_cuda:
        return 0, calls.clone()
    call = int(calls)
    if call < 0:
        raise ValueError(f"calls = {call}: expected at least 0")
    return call, None


def log_uniform_candidates(
    true_classes: Tensor, calls: Tensor, seed: Tensor, num_sampled: int, unique: bool, range_max: int
) -> tuple[Any, ...]:
    first, second = _words(seed)
    arguments = (true_classes, num_true_of(true_classes), num_sampled, unique, range_max, first, second)
    call, counter = _position(calls)
    device = cuda_device_of(true_classes, "true_classes", range_max)
    if device is None:
        return tuple(map(like(true_classes), _core.log_uniform_candidates(*arguments, call, None, 0)))
    address = 0 if counter is None else counter.data_ptr()
    with device.call():
        values = _core.log_uniform_candidates(*arguments, call, device, address)
    return tuple(map(device.hand_over, values))


def _call(
    grad_loss: Any,
    gradients: tuple[bool, bool, bool],
    weights: Tensor,
    biases: Tensor,
    labels: Tensor,
    inputs: Tensor,
    sampled: Tensor | None,
    true_count: Tensor | None,
    sampled_count: Tensor | None,
    calls: Tensor | None,
    seed: Tensor | None,
    num_sampled: int,
    num_classes: int,
    num_true: int,
    remove_accidental_hits: bool,
    precision: str | None,
    sparse: bool,
    pad_rows: bool,
) -> tuple[Any, ...]:
    call, counter = _position(calls)
    x = inputs.detach().resolve_neg()
    if x.dim() == 2 and x.stride(1) != 1:
        x = x.contiguous()
    # 16-bit gradients are rounded once the upstream factor is known, which may be what keeps them from vanishing.
    grad_dtype = None if x.dtype == torch.float64 else "float32"
    return compute(
        weights=weights.detach().resolve_neg(),
        biases=biases.detach().resolve_neg(),
        labels=labels,
        inputs=x,
        num_sampled=num_sampled,
        num_classes=num_classes,
        num_true=num_true,
        sampled_values=None if sampled is None else (sampled, true_count, sampled_count),
        remove_accidental_hits=remove_accidental_hits,
        seed=_words(seed),
        call=call,
        calls=0 if counter is None else counter.data_ptr(),
        precision=precision,
        gradients=gradients,
        grad_loss=grad_loss,
        grad_dtype=grad_dtype,
        pad_rows=pad_rows,
    )


def nce_loss(*arguments: Any) -> Any:
    """The loss of each example, ``[B]``."""
    return _call(None, (False, False, False), *arguments)[0]


def loss_dtype(inputs: Tensor) -> torch.dtype:
    return torch.float64 if inputs.dtype == torch.float64 else torch.float32


def equal_share(inputs: Tensor) -> float:
    """The factor of each loss in their mean."""
    return 1 / max(inputs.shape[0], 1)


def nce_loss_and_grad(*arguments: Any) -> tuple[Any, ...]:
    """Sum or mean of the losses, or their sum times ``grad_loss``, and its gradients: empty ones where not wanted."""
    *shared, grad_loss, mean, gradients = arguments
    inputs: Tensor = arguments[INPUTS]
    factor = grad_loss
    if mean:
        factor = equal_share(inputs)
        if inputs.is_cuda:
            factor = inputs.new_full((len(inputs),), factor, dtype=torch.float32)
    loss, *results = _call(factor, tuple(gradients), *shared)
    total = loss.sum() if factor is None else (loss * factor).sum()
    return total, *(inputs.new_empty((0,)) if result is None else result for result in results)
