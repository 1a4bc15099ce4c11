"""PyTorch with gradients written by hand.

`Whole`: the step in one piece, rows padded to a fixed number, compiled by `torch.compile`; it never waits for the
device, so that a CUDA graph can hold it: as far as PyTorch can be pushed. `Chunked`: eager, the batch in chunks, so
that the [B, S] matrix is never whole in memory.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from baselines_autograd import logits
from contender import Contender, Level
from problems import Candidates, Problem
from rows_pytorch import coalesce, coalesce_padded
from sampling_pytorch import Sampler

# Logits of one chunk: 32 MiB of float32, which stays in the L2 cache of a large GPU.
CHUNK_LOGITS = 1 << 23


def true_part(x: Tensor, rows: Tensor, shift: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of inputs [B, D] and true rows [B, T, D]: loss [B], dX, and gradients of rows [B T, D] and biases [B T]."""
    B, T, D = rows.shape
    logit = (x.unsqueeze(1) * rows).sum(-1, dtype=torch.float32) + shift.view(B, T)
    g = logit.sigmoid() - 1 / T
    loss = (softplus(logit) - logit / T).sum(1)
    dx = (g.unsqueeze(2) * rows).sum(1)
    return loss, dx, (g.unsqueeze(2) * x.unsqueeze(1)).view(B * T, D).to(x.dtype), g.flatten()


def whole(
    weights: Tensor, biases: Tensor, labels: Tensor, x: Tensor, sampled: Tensor, log_true: Tensor, log_sampled: Tensor
) -> tuple[Tensor, ...]:
    V, D = weights.shape
    B = len(x)
    true_rows, rows = weights[labels].view(B, -1, D), weights[sampled]
    loss, dx, dw_true, db_true = true_part(x, true_rows, biases[labels] - log_true)
    logit = logits(x, rows, biases[sampled] - log_sampled)
    loss = loss + softplus(logit).sum(1)
    g = logit.sigmoid()
    narrow = g.to(x.dtype)
    dx = (dx + narrow @ rows).to(x.dtype)
    coalesced = coalesce_padded(torch.cat([labels, sampled]), V, [dw_true, narrow.t() @ x], [db_true, g.sum(0)])
    return loss, dx, *coalesced


class Whole(Contender):
    kind = "torch whole"
    capturable = True

    def __init__(self, problem: Problem, level: Level) -> None:
        super().__init__(problem, level)
        self._sample = Sampler(problem)
        self._labels = [batch.labels.flatten() for batch in problem.batches]
        self._whole: Any = torch.compile(whole, dynamic=False)

    @torch.no_grad()
    def step(self, batch: int, candidates: Candidates | None = None) -> Any:
        labels, inputs = self._labels[batch], self.problem.batches[batch].inputs
        drawn = self._sample(labels, candidates)
        return self._whole(self.problem.weights, self.problem.biases, labels, inputs, *drawn)


class Chunked(Contender):
    kind = "torch chunked"

    def __init__(self, problem: Problem, level: Level) -> None:
        super().__init__(problem, level)
        self._sample = Sampler(problem)
        self._labels = [batch.labels.flatten() for batch in problem.batches]
        self._chunk = max(256, CHUNK_LOGITS // problem.shape.S)

    @torch.no_grad()
    def step(self, batch: int, candidates: Candidates | None = None) -> Any:
        labels, x = self._labels[batch], self.problem.batches[batch].inputs
        weights, biases = self.problem.weights, self.problem.biases
        sampled, log_true, log_sampled = self._sample(labels, candidates)
        rows, shift = weights.index_select(0, sampled), biases.index_select(0, sampled) - log_sampled
        true_rows = weights.index_select(0, labels).view(len(x), -1, x.shape[1])
        loss, true_dx, dw_true, db_true = true_part(x, true_rows, biases.index_select(0, labels) - log_true)
        dx = torch.empty_like(x)
        dw = torch.zeros(rows.shape, device=x.device)
        db = torch.zeros(len(rows), device=x.device)
        for start in range(0, len(x), self._chunk):
            part = slice(start, start + self._chunk)
            logit = logits(x[part], rows, shift)
            loss[part] += softplus(logit).sum(1)
            g = logit.sigmoid_()
            db += g.sum(0)
            narrow = g.to(x.dtype)
            dx[part] = true_dx[part] + narrow @ rows
            # Sums over chunks are float32, products of bfloat16 come out rounded.
            if x.dtype == torch.float32:
                dw.addmm_(narrow.t(), x[part])
            else:
                dw += narrow.t() @ x[part]
        coalesced = coalesce(torch.cat([labels, sampled]), [dw_true, dw.to(x.dtype)], [db_true, db])
        return loss, dx, *coalesced
