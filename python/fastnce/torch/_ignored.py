"""Examples that ``ignore_index`` leaves out: a loss of exactly 0, and gradients of 0 whatever the upstream gradient is.

Masks, not factors, make these zeros: 0 * inf and 0 * NaN are NaN, and a scaled loss sends such gradients back.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from fastnce import _core


class Batch(NamedTuple):
    """A batch in which ignored examples hold values that do no harm."""

    input: Tensor
    """``[B, D]``, 0 where ignored."""
    target: Tensor
    """``[B]`` or ``[B, T]``, another example's classes where ignored."""
    ignored: Tensor | None
    """``[B]`` which examples are ignored; ``None`` where it is known that none is."""

    def fill_ignored(self, values: Tensor, fill: float) -> Tensor:
        """``[B, ...]`` values with ``fill`` for ignored examples; one value for all of them if all are ignored."""
        if self.ignored is None:
            return values
        own = values.shape[:1] == self.ignored.shape
        mask = self.ignored.reshape(-1, *[1] * (values.dim() - 1)) if own else self.ignored.all()
        return values.masked_fill(mask, fill)


def leave_out(input: Tensor, target: Tensor, ignore_index: int | None, eager: bool) -> Batch:
    """The batch without the examples whose classes are all ``ignore_index``.

    Raises:
        ValueError: On the CPU, a row of target in which only some of the classes are ``ignore_index``. On a CUDA device
            such an example gets a class that does not exist, and so a loss of NaN.
    """
    # The library refuses shapes that do not match; masks must not fail first.
    num_true = target.shape[1] if target.dim() == 2 else 1
    fits = input.dim() == 2 and target.dim() in (1, 2) and target.shape[0] == input.shape[0] and num_true > 0
    if ignore_index is None or not fits:
        return Batch(input, target, None)
    if eager and _reads(target) and not _core.contains(target, "labels", ignore_index):
        return Batch(input, target, None)
    target = target.long()  # a narrow dtype would wrap what it is compared with
    if num_true > 1:
        mark = mark_partly_ignored if eager else torch.ops.fastnce.mark_partly_ignored
        target = mark(target, ignore_index)
    ignored = target == ignore_index
    if target.dim() == 2:
        ignored = ignored.all(1)
    return Batch(input.masked_fill(ignored.unsqueeze(1), 0), _with_stand_ins(target, ignored), ignored)


def mark_partly_ignored(target: Tensor, ignore_index: int) -> Tensor:
    """``[B, T]`` classes, with -1 for each ``ignore_index`` in a row that has a class, too; on the CPU a ValueError."""
    is_index = target == ignore_index
    partly = is_index & ~is_index.all(1, keepdim=True)
    if _reads(target) and partly.any():
        row, column = partly.nonzero()[0].tolist()
        other = int(is_index[row].to(torch.uint8).argmin())
        raise ValueError(
            f"target[{row}, {column}] = {ignore_index} is ignore_index, but target[{row}, {other}] = "
            f"{int(target[row, other])} is a class: expected classes only, or ignore_index in the whole row"
        )
    return torch.where(partly, -1, target)


def _reads(target: Tensor) -> bool:
    """Whether values are looked at: reading those of a CUDA device would wait for it, and "meta" has none."""
    return target.device.type == "cpu"


def _with_stand_ins(target: Tensor, ignored: Tensor) -> Tensor:
    """``target`` with the classes of another example for the ignored ones', so that no further class takes part."""
    if target.shape[0] == 0:
        return target
    kept = target.index_select(0, ignored.to(torch.uint8).argmin().unsqueeze(0))
    mask = ignored if target.dim() == 1 else ignored.unsqueeze(1)
    # If all are ignored, that one is, too: then any class in range will do.
    return torch.where(mask, torch.where(ignored.all(), 0, kept), target)
