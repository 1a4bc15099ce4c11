"""Sizes of the sharded tables of the tests, how results are compared, and what several checks share."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from fastnce.torch import distributed
from tolerances import SHARDED_RELATIVE

V, D, S = 61, 9, 13


def close(name: str, got: Tensor, expected: Tensor, dtype: str) -> None:
    assert got.shape == expected.shape, f"{name}: shape {list(got.shape)}, expected {list(expected.shape)}"
    largest = expected.double().abs().max().item() if expected.numel() else 0.0
    error = (got.double() - expected.double()).abs().max().item() if expected.numel() else 0.0
    assert error <= SHARDED_RELATIVE[dtype] * largest, f"{name}: off by {error:.3g} of {largest:.3g}"


def whole_of(parameter: Tensor, rank: int, size: int) -> Tensor:
    """The table of all ranks' rows, in natural order."""
    parts: list[Any] = [None] * size
    dist.all_gather_object(parts, parameter.detach())
    whole = parameter.new_zeros((sum(map(len, parts)), *parameter.shape[1:]))
    for owner, rows in enumerate(parts):
        whole[owner::size] = rows
    return whole


def small(**options: Any) -> distributed.ShardedNCELoss:
    return distributed.ShardedNCELoss(*(V, D, S), seed=5, **options)


def fails(kind: type[Exception] | tuple[type[Exception], ...], message: str, call: Callable[[], Any]) -> None:
    try:
        call()
    except kind as error:
        assert re.search(message, str(error)), str(error)
        return
    raise AssertionError(f"no {kind} with {message!r}")


def trained(criterion: Any, optimizer: torch.optim.Optimizer, rank: int, steps: range) -> list[float]:
    """The losses of some steps, whose batches depend on rank and step."""
    losses = []
    for step in steps:
        generator = torch.Generator().manual_seed(100 * step + rank)
        optimizer.zero_grad()
        loss = criterion(torch.randn(4, D, generator=generator), torch.randint(0, V, (4,), generator=generator))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
