"""Examples without a true class: ``ignore_index`` leaves out all of their classes, or their list is empty.

The library leaves them out. What is left for PyTorch is a mean that does not count such examples, and
zeros where the upstream gradient is not finite: 0 * inf and 0 * NaN are NaN, and a scaled loss sends such gradients
back.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastnce import _core
from fastnce.torch._schema import Fields
from fastnce.torch._shapes import fits, fits_lists


def drop_unused_padding(fields: Fields) -> None:
    """Takes ``padding`` out of an eager request none of whose classes is it.

    Not on a CUDA device, where looking would synchronise.
    """
    labels: Tensor = fields["labels"]
    if fields["padding"] is not None and labels.is_cpu:
        ids = labels.resolve_neg().numpy()
        if not _core.contains(ids, "labels", fields["padding"]):
            fields["padding"] = None


def ignored_examples(fields: Fields) -> Tensor | None:
    """``[...]`` which examples have no class but ``padding``; ``None`` where none can be such."""
    labels, offsets = fields["labels"], fields["label_offsets"]
    return ignored_labels(labels, offsets, fields["padding"], fields["num_true"], fields["inputs"].shape)


def ignored_labels(
    labels: Tensor, offsets: Tensor | None, padding: int | None, num_true: int, inputs_shape: Any
) -> Tensor | None:
    """The same of the fields that it depends on."""
    # The library refuses shapes that do not match, and masks must not fail first.
    if offsets is not None:
        if not fits_lists(labels.shape, offsets.shape, inputs_shape):
            return None
        return _are_empty(labels, offsets, padding).reshape(inputs_shape[:-1])
    if padding is None or num_true == 0 or not fits(labels.shape, inputs_shape):
        return None
    ignored = labels.long() == padding  # a narrow dtype would wrap what it is compared with
    return ignored.all(-1) if labels.dim() == len(inputs_shape) else ignored


def _are_empty(labels: Tensor, offsets: Tensor, padding: int | None) -> Tensor:
    """``[B]`` which lists hold nothing but ``padding``."""
    if padding is None:
        return offsets.diff() == 0
    counts = torch.nn.functional.pad((labels.long() != padding).cumsum(0), (1, 0))
    return counts[offsets.long().clamp(0, labels.shape[0])].diff() == 0
