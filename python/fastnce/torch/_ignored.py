"""Examples that ``ignore_index`` leaves out altogether: all of their classes are it.

The library leaves out every ignored class. What is left for PyTorch is a mean that does not count such examples, and
zeros where the upstream gradient is not finite: 0 * inf and 0 * NaN are NaN, and a scaled loss sends such gradients
back.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from fastnce import _core
from fastnce.torch._schema import Fields
from fastnce.torch._shapes import fits


def drop_unused_padding(fields: Fields) -> None:
    """Takes ``padding`` out of an eager request none of whose classes is it.

    Not on a CUDA device, where looking would synchronise.
    """
    labels: Tensor = fields["labels"]
    if fields["padding"] is not None and labels.is_cpu:
        ids = labels.resolve_neg().numpy()
        if not _core.contains(ids, "labels", fields["padding"]):
            fields["padding"] = None


def ignored_examples(labels: Tensor, padding: int | None, num_true: int, inputs_shape: Any) -> Tensor | None:
    """``[...]`` which examples have no class but ``padding``; ``None`` where there is no padding."""
    # The library refuses shapes that do not match, and masks must not fail first.
    if padding is None or num_true == 0 or not fits(labels.shape, inputs_shape):
        return None
    ignored = labels.long() == padding  # a narrow dtype would wrap what it is compared with
    return ignored.all(-1) if labels.dim() == len(inputs_shape) else ignored
