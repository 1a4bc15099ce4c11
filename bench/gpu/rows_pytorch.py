"""Sums over equal ids in PyTorch: row gradients as a sparse update needs them, each row once, ids ascending.

Sums are float32 whatever the rows are: hundreds of terms added up in bfloat16 would be worth nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor


def _summed(count: int, at: Tensor, parts: list[Tensor]) -> Tensor:
    """Sum the rows of each place; `at` [m] says where each of the parts' rows goes."""
    sums = torch.zeros(count, *parts[0].shape[1:], device=at.device)
    start = 0
    for part in parts:
        sums.index_add_(0, at[start : start + len(part)], part.float())
        start += len(part)
    return sums.to(parts[0].dtype)


def coalesce(ids: Tensor, dw: list[Tensor], db: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """As many rows as there are ids: the host waits to learn how many."""
    unique, at = torch.unique(ids, return_inverse=True)
    return unique, _summed(len(unique), at, dw), _summed(len(unique), at, db)


def coalesce_padded(ids: Tensor, V: int, dw: list[Tensor], db: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Always len(ids) rows, the last of class V, which does not exist: no synchronisation, so graphs can capture it."""
    ordered, order = torch.sort(ids)
    first = torch.ones_like(ordered, dtype=torch.bool)
    first[1:] = ordered[1:] != ordered[:-1]
    place = first.cumsum(0) - 1
    unique = torch.full_like(ids, V).scatter(0, place, ordered)
    at = torch.empty_like(order).scatter(0, order, place)
    return unique, _summed(len(ids), at, dw), _summed(len(ids), at, db)
