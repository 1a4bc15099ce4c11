"""What is measured: contenders, the accuracy each is held to, and whom each is compared with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from problems import Candidates, Problem


class Outputs(NamedTuple):
    """What one step computes: loss [B], dx [B, D], and n rows dw [n, D], db [n] of the classes ids [n].

    Ids are ascending and unique, or, where rows are padded to a fixed number, followed by ids outside the table, or
    rows of zeros. All but the loss are None where only that is computed.
    """

    loss: Tensor
    dx: Tensor | None = None
    ids: Tensor | None = None
    dw: Tensor | None = None
    db: Tensor | None = None


@dataclass(frozen=True)
class Tolerance:
    """Largest Euclidean norm of the error over that of the truth."""

    loss: float
    gradient: float


@dataclass(frozen=True)
class Level:
    """A way of computing that contenders are compared within: dtype of table and inputs, and float32 products."""

    key: str
    dtype: torch.dtype
    matmul: str
    """For torch.set_float32_matmul_precision()."""
    torch: Tolerance | None
    """What PyTorch is held to; None: it has no such level."""
    fastnce: Tolerance
    products: str
    """The level whose bare products in cuBLAS are the floor of this one."""


# TF32 rounds operands to 11 bits, bfloat16 to 8. A sum of B float32 terms is itself off by some 1e-6.
LEVELS = {
    level.key: level
    for level in (
        Level("f32 highest", torch.float32, "highest", Tolerance(1e-5, 3e-5), Tolerance(1e-5, 1e-5), "f32 highest"),
        Level("f32 high", torch.float32, "high", Tolerance(1e-3, 1e-3), Tolerance(1e-3, 1e-3), "f32 high"),
        Level("f32 medium", torch.float32, "medium", None, Tolerance(1e-2, 1e-2), "bf16 medium"),
        Level("bf16 highest", torch.bfloat16, "highest", None, Tolerance(1e-5, 4e-3), "bf16 medium"),
        Level("bf16 medium", torch.bfloat16, "medium", Tolerance(2e-2, 2e-2), Tolerance(1e-2, 1e-2), "bf16 medium"),
    )
}


class Contender(ABC):
    """`step` is what gets timed; everything else may take its time."""

    kind = ""
    """What tables call it, before the name of its level."""
    gradients = True
    capturable = False
    """Whether a step never waits for the device, so that a CUDA graph can hold it."""

    def __init__(self, problem: Problem, level: Level) -> None:
        self.problem, self.level = problem, level

    @property
    def tolerance(self) -> Tolerance:
        assert self.level.torch is not None
        return self.level.torch

    def enter(self) -> None:
        """Set what is global; called before any series of steps, untimed."""
        torch.set_float32_matmul_precision(self.level.matmul)

    @abstractmethod
    def step(self, batch: int, candidates: Candidates | None = None) -> Any:
        """Queue one step for one batch; samples unless given `candidates`."""

    def outputs(self, result: Any) -> Outputs | None:
        """What `step` returned; None from a limit that computes no loss."""
        return Outputs(*result)
