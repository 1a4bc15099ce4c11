"""The shapes of the operators' results, for ``torch.compile``, fake tensors and the device "meta".

There the library's own checks do not run, or only once the compiled graph does.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastnce.torch._kernels import (
    BIASES,
    INPUTS,
    LABELS,
    NUM_SAMPLED,
    NUM_TRUE,
    PAD_ROWS,
    WEIGHTS,
    loss_dtype,
    num_true_of,
)


def candidates(
    true_classes: Tensor, calls: Tensor, seed: Tensor, num_sampled: int, unique: bool, range_max: int
) -> tuple[Tensor, ...]:
    if true_classes.dim() not in (1, 2):
        raise ValueError(f"true_classes has shape {list(true_classes.shape)}: expected [B] or [B, num_true]")
    return (
        true_classes.new_empty((num_sampled,), dtype=torch.int64),
        true_classes.new_empty((true_classes.shape[0], num_true_of(true_classes)), dtype=torch.float32),
        true_classes.new_empty((num_sampled,), dtype=torch.float32),
    )


def loss(*arguments: Any) -> Tensor:
    _require_shapes(arguments)
    inputs: Tensor = arguments[INPUTS]
    return inputs.new_empty((inputs.shape[0],), dtype=loss_dtype(inputs))


def loss_and_gradients(*arguments: Any) -> tuple[Tensor, ...]:
    _require_shapes(arguments)
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


def _require_shapes(arguments: Any) -> None:
    inputs, weights, biases, labels = (arguments[position] for position in (INPUTS, WEIGHTS, BIASES, LABELS))

    def refuse(name: str, tensor: Tensor, expected: str) -> None:
        raise ValueError(f"{name} has shape {list(tensor.shape)}: expected {expected}")

    if inputs.dim() != 2:
        refuse("inputs", inputs, "[B, D]")
    if weights.dim() != 2 or certainly(weights.shape[1] != inputs.shape[1]):
        refuse("weights", weights, f"[V, D] with D = {inputs.shape[1]}, the width of inputs")
    if biases.dim() != 1:
        refuse("biases", biases, "[V]")
    fits = labels.dim() in (1, 2) and not certainly(labels.shape[0] != inputs.shape[0])
    if not fits or certainly(num_true_of(labels) != arguments[NUM_TRUE]):
        refuse("labels", labels, f"[B, num_true] = [{inputs.shape[0]}, {arguments[NUM_TRUE]}]")


def certainly(condition: Any) -> bool:
    """Whether a comparison of sizes holds as far as is known: sizes that depend on data have no value in a graph."""
    if isinstance(condition, bool):
        return condition
    from torch.fx.experimental.symbolic_shapes import statically_known_true  # loads SymPy, as symbolic sizes have done

    return bool(statically_known_true(condition))
