"""Which rank holds which class: row k of rank r is class k P + r, so that frequent classes are spread evenly."""

from __future__ import annotations

import torch
from torch import Tensor


def owner_of(ids: Tensor, size: int) -> Tensor:
    """The ranks that hold the rows of these classes."""
    return ids % size


def row_of(ids: Tensor, size: int) -> Tensor:
    """Where the ranks hold them."""
    return torch.div(ids, size, rounding_mode="floor")


def rows_of_rank(num_classes: int, rank: int, size: int) -> int:
    """How many classes a rank holds."""
    return max(0, -(-(num_classes - rank) // size))


def require_classes(num_classes: int, size: int) -> None:
    """Raises ValueError unless each rank has a row."""
    if num_classes < size:
        raise ValueError(f"num_classes = {num_classes}: expected at least one for each of {size} ranks")


def offsets_of(counts: Tensor) -> Tensor:
    """int64 ``[n + 1]`` offsets of lists of these lengths."""
    offsets = counts.new_zeros(counts.shape[0] + 1)
    torch.cumsum(counts, 0, out=offsets[1:])
    return offsets
