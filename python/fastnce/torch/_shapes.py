"""The shapes of the operators' results, for ``torch.compile``, fake tensors and the device "meta"."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastnce.torch._kernels import INPUTS, LABELS, NUM_SAMPLED, PAD_ROWS, WEIGHTS, loss_dtype, num_true_of


def candidates(
    true_classes: Tensor, calls: Tensor, seed: Tensor, num_sampled: int, unique: bool, range_max: int
) -> tuple[Tensor, ...]:
    return (
        true_classes.new_empty((num_sampled,), dtype=torch.int64),
        true_classes.new_empty((true_classes.shape[0], num_true_of(true_classes)), dtype=torch.float32),
        true_classes.new_empty((num_sampled,), dtype=torch.float32),
    )


def loss(*arguments: Any) -> Tensor:
    inputs: Tensor = arguments[INPUTS]
    return inputs.new_empty((inputs.shape[0],), dtype=loss_dtype(inputs))


def loss_and_gradients(*arguments: Any) -> tuple[Tensor, ...]:
    gradients: list[bool] = arguments[-1]
    inputs: Tensor = arguments[INPUTS]
    dtype = loss_dtype(inputs)
    rows: Any = 0
    if gradients[1] or gradients[2]:
        entries = arguments[LABELS].numel() + arguments[NUM_SAMPLED]
        rows = entries if arguments[PAD_ROWS] else torch.library.get_ctx().new_dynamic_size()
    width = arguments[WEIGHTS].shape[1]
    return (
        inputs.new_empty((), dtype=dtype),
        inputs.new_empty(inputs.shape, dtype=dtype) if gradients[0] else inputs.new_empty((0,)),
        inputs.new_empty((rows,), dtype=torch.int64) if gradients[1] or gradients[2] else inputs.new_empty((0,)),
        inputs.new_empty((rows, width), dtype=dtype) if gradients[1] else inputs.new_empty((0,)),
        inputs.new_empty((rows,), dtype=dtype) if gradients[2] else inputs.new_empty((0,)),
    )
