"""Labels, their weights and exclusions as operators take them: lists of classes are values ``[n]`` and offsets."""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from torch import Tensor

from fastnce._errors import is_a
from fastnce._types import Ragged
from fastnce.torch._arguments import (
    is_eager,
    require_constants,
    require_device,
    require_integers,
    require_tensors,
)
from fastnce.torch._shapes import loss_dtype

Classes: TypeAlias = Tensor | Ragged[Tensor]
"""Classes of the examples. Lists are a nested tensor ``[B, j]`` of layout ``torch.jagged``, or its two tensors."""


def split_lists(name: str, classes: Any) -> tuple[Any, Tensor | None]:
    """Values and offsets of lists; anything else as it is, without offsets."""
    if isinstance(classes, Tensor):
        return _split_nested(name, classes)
    if isinstance(classes, Ragged):
        values, offsets = classes
        require_tensors(**{f"{name}.values": values, f"{name}.offsets": offsets})
        require_integers(f"{name}.offsets", offsets)
        require_device(values.device, f"{name}.values", **{f"{name}.offsets": offsets})
        return values, offsets
    return classes, None


def _split_nested(name: str, nested: Any) -> tuple[Any, Tensor | None]:
    if not nested.is_nested:
        return nested, None
    if nested.layout is not torch.jagged:
        raise TypeError(f"{name} is a nested tensor of layout {nested.layout}: expected layout torch.jagged")
    if nested.lengths() is not None:
        raise ValueError(f"{name} is a nested tensor with holes: expected one without; call {name}.contiguous()")
    return nested.values(), nested.offsets()


def label_weights_of(label_weights: Any, offsets: Tensor | None, input: Tensor) -> Tensor | None:
    """Weights of labels, whose offsets are these, as operators take them: of the shape of labels or of their values."""
    if label_weights is None:
        return None
    if not isinstance(label_weights, Tensor):
        require_tensors(label_weights=label_weights)
    weights, own_offsets = _split_nested("label_weights", label_weights)
    if own_offsets is not None:
        if offsets is None:
            raise ValueError("label_weights is a nested tensor: expected a tensor of the shape of target, as that is")
        # A graph cannot look at values; there as many weights as labels have to do.
        known = is_eager(offsets, own_offsets) and offsets.is_cpu and own_offsets.is_cpu
        if known and own_offsets is not offsets and not torch.equal(own_offsets, offsets):
            raise ValueError("label_weights has other offsets than target: expected a weight for each label")
    require_tensors(label_weights=weights)
    if weights.is_complex() or weights.dtype == torch.bool:
        raise TypeError(f"label_weights has dtype {weights.dtype}: expected real numbers")
    require_device(input.device, "input", label_weights=weights)
    require_constants(label_weights=weights)
    result: Tensor = weights.to(loss_dtype(input))
    return result


def exclude_of(exclude: Any, device: torch.device) -> tuple[Tensor | None, Tensor | None]:
    """Values and offsets of the classes that examples exclude; ``None`` for none."""
    if exclude is None:
        return None, None
    values, offsets = split_lists("exclude", exclude)
    if offsets is None:
        raise TypeError(
            f"exclude {is_a(exclude)}: expected a list of classes for each example, as a fastnce.Ragged of tensors or "
            "a nested tensor of layout torch.jagged"
        )
    require_integers("exclude", values)
    require_device(device, "input", exclude=values)
    return values, offsets
