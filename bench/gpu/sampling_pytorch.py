"""Log-uniform sampling as PyTorch's users have to write it: with replacement, by the inverse CDF, on the device."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from problems import Candidates, Problem


def log_counts(V: int, S: int, device: torch.device) -> Tensor:
    """Log of the expected count of every class [V]: made once, before training."""
    ranks = torch.arange(1, V + 1, dtype=torch.float64, device=device)
    return ranks.reciprocal_().log1p_().mul_(S / math.log1p(V)).log_().float()


class Sampler:
    """Draws S classes and looks their expected counts up, or takes over given ones."""

    def __init__(self, problem: Problem) -> None:
        self._V, self._S = problem.shape.V, problem.shape.S
        self._device = problem.device
        self._log_counts = log_counts(self._V, self._S, problem.device)

    def __call__(self, labels: Tensor, candidates: Candidates | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Sampled ids [S], log Q of the flattened labels and of the samples."""
        if candidates is not None:
            return candidates.ids, candidates.true_counts.flatten().log(), candidates.sampled_counts.log()
        uniform = torch.rand(self._S, dtype=torch.float64, device=self._device)
        # exp() may round up to V + 1.
        ids = uniform.mul_(math.log1p(self._V)).exp_().long().sub_(1).clamp_(max=self._V - 1)
        return ids, self._log_counts.index_select(0, labels), self._log_counts.index_select(0, ids)
