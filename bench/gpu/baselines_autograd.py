"""PyTorch with autograd, as an expert writes it: gather the few rows first, then keep autograd away from the table.

Eager, and with `torch.compile` for the loss and its backward pass. The sums over equal ids stay eager in both: how many
there are depends on the data.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from contender import Contender, Level
from problems import Candidates, Problem
from rows_pytorch import coalesce
from sampling_pytorch import Sampler


def logits(inputs: Tensor, rows: Tensor, shift: Tensor) -> Tensor:
    """Float32 inputs·rowsᵀ + shift. Products of bfloat16 come out rounded; log Q must not be."""
    if inputs.dtype == torch.float32:
        return torch.addmm(shift, inputs, rows.t())
    return (inputs @ rows.t()).float() + shift


def loss(inputs: Tensor, true_rows: Tensor, true_shift: Tensor, sampled_rows: Tensor, sampled_shift: Tensor) -> Tensor:
    """Loss [B] of inputs [B, D], with T true rows for each and S sampled ones for all; shifts are bias - log Q."""
    B, D = inputs.shape
    T = len(true_rows) // B
    true = (inputs.unsqueeze(1) * true_rows.view(B, T, D)).sum(-1, dtype=torch.float32) + true_shift.view(B, T)
    noise = logits(inputs, sampled_rows, sampled_shift)
    return (softplus(true) - true / T).sum(1) + softplus(noise).sum(1)


class Eager(Contender):
    kind = "torch eager"

    def __init__(self, problem: Problem, level: Level) -> None:
        super().__init__(problem, level)
        self._sample = Sampler(problem)
        self._batches = [(labels.flatten(), x.detach().requires_grad_()) for labels, x in problem.batches]
        self._ones = torch.ones(problem.shape.B, device=problem.device)
        self._loss: Any = loss

    def step(self, batch: int, candidates: Candidates | None = None) -> Any:
        labels, inputs = self._batches[batch]
        sampled, log_true, log_sampled = self._sample(labels, candidates)
        # The gradient of bias - log Q is that of the bias: it saves an operation per logit.
        leaves = [
            inputs,
            self.problem.weights.index_select(0, labels).requires_grad_(),
            (self.problem.biases.index_select(0, labels) - log_true).requires_grad_(),
            self.problem.weights.index_select(0, sampled).requires_grad_(),
            (self.problem.biases.index_select(0, sampled) - log_sampled).requires_grad_(),
        ]
        losses = self._loss(*leaves)
        dx, dw_true, db_true, dw_sampled, db_sampled = torch.autograd.grad(losses, leaves, self._ones)
        rows = coalesce(torch.cat([labels, sampled]), [dw_true, dw_sampled], [db_true, db_sampled])
        return losses.detach(), dx, *rows


class Compiled(Eager):
    kind = "torch compile"

    def __init__(self, problem: Problem, level: Level) -> None:
        super().__init__(problem, level)
        self._loss = torch.compile(loss, dynamic=False)


class EagerLoss(Contender):
    """Without gradients."""

    kind = "torch eager loss"
    gradients = False

    def __init__(self, problem: Problem, level: Level) -> None:
        super().__init__(problem, level)
        self._sample = Sampler(problem)
        self._labels = [batch.labels.flatten() for batch in problem.batches]
        self._loss: Any = loss

    @torch.no_grad()
    def step(self, batch: int, candidates: Candidates | None = None) -> Any:
        labels, weights, biases = self._labels[batch], self.problem.weights, self.problem.biases
        sampled, log_true, log_sampled = self._sample(labels, candidates)
        true = weights.index_select(0, labels), biases.index_select(0, labels) - log_true
        noise = weights.index_select(0, sampled), biases.index_select(0, sampled) - log_sampled
        return (self._loss(self.problem.batches[batch].inputs, *true, *noise),)


class CompiledLoss(EagerLoss):
    kind = "torch compile loss"

    def __init__(self, problem: Problem, level: Level) -> None:
        super().__init__(problem, level)
        self._loss = torch.compile(loss, dynamic=False)
