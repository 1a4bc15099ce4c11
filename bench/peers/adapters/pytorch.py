"""PyTorch as an expert writes it: gather the few rows first, then keep autograd away from the table.

Variants: eager, and compiled, where `torch.compile` takes the gathering, and the loss with its backward pass. The sums
over equal ids stay eager in both: how many there are depends on the data, and compiled code adds rows up atomically.

Measured and not reliably better: bmm, baddbmm or multiply-and-sum for the true logits; logsigmoid or
binary_cross_entropy_with_logits for the losses; sparse coalesce() or a sorted embedding_bag for the row sums;
gradients written by hand and compiled. For the softmax: logsumexp() over all logits or over each part, cross_entropy(),
a [B, S] comparison for hits (faster on w2v alone), gradients written by hand (faster on w2v alone).
Samples are drawn with replacement, the cheapest way; their expected counts come from a table made once.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, softplus

from protocol import Adapter, Outputs
from shapes import NCE, SOFTMAX, Candidates, Case


class Peer(Adapter):
    def __init__(self, threads: int, variant: str) -> None:
        super().__init__(threads)
        torch.set_num_threads(threads)
        self._compiled = {"eager": False, "compile": True}[variant]
        # The cache on disk takes code for one instruction set for that of another: wrong results, or worse.
        torch.compiler.config.force_disable_caches = True

    def versions(self) -> dict[str, Any]:
        return {"torch": torch.__version__, "cpu_capability": torch.backends.cpu.get_cpu_capability()}

    def prepare(self, case: Case) -> None:
        self._shape = shape = case.shape
        self._weights, self._biases = map(torch.from_numpy, case.table())
        self._batches = [
            (torch.from_numpy(labels).flatten(), torch.from_numpy(inputs).requires_grad_())
            for labels, inputs in case.batches
        ]
        self._ones = torch.ones(shape.B)
        self._log_range = math.log1p(shape.V)
        ranks = torch.arange(1, shape.V + 1, dtype=torch.float64)
        self._log_count = ranks.reciprocal_().log1p_().mul_(shape.S / self._log_range).log_().float()
        self._gather, self._loss = gather, LOSSES[case.loss]
        self._removes_hits = case.loss == SOFTMAX
        if self._compiled:
            # Each shape is compiled for itself: what was compiled for earlier ones only counts against a limit.
            torch.compiler.reset()
            self._gather, self._loss = (torch.compile(f, dynamic=False) for f in (gather, self._loss))

    def step(self, batch: int, candidates: Candidates | None = None) -> Any:
        labels, inputs = self._batches[batch]
        if candidates is None:
            uniform = torch.rand(self._shape.S, dtype=torch.float64)
            sampled = uniform.mul_(self._log_range).exp_().long().sub_(1)
            # exp() may round up to V + 1.
            sampled.clamp_(max=self._shape.V - 1)
            log_true = self._log_count.index_select(0, labels)
            log_sampled = self._log_count.index_select(0, sampled)
        else:
            sampled, true_counts, sampled_counts = map(torch.from_numpy, candidates)
            log_true, log_sampled = true_counts.flatten().log(), sampled_counts.log()
        true = self._gather(self._weights, self._biases, labels, log_true)
        noise = self._gather(self._weights, self._biases, sampled, log_sampled)
        leaves = [inputs, *(tensor.requires_grad_() for tensor in (*true, *noise))]
        losses = self._loss(*leaves, *((labels, sampled) if self._removes_hits else ()))
        dx, *gradients = torch.autograd.grad(losses, leaves, self._ones)
        return losses, dx, *coalesce(labels, sampled, *gradients)

    def outputs(self, result: Any) -> Outputs:
        return Outputs(*(tensor.detach().numpy() for tensor in result))


def gather(weights: Tensor, biases: Tensor, ids: Tensor, log_count: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and bias - log Q, whose gradient is that of the bias: it saves an operation per logit."""
    return weights.index_select(0, ids), biases.index_select(0, ids) - log_count


def logits(
    inputs: Tensor, true_rows: Tensor, true_shift: Tensor, sampled_rows: Tensor, sampled_shift: Tensor
) -> tuple[Tensor, Tensor]:
    """[B, T] and [B, S] of inputs [B, D], with T true rows for each and S sampled ones for all."""
    B, D = inputs.shape
    T = len(true_rows) // B
    true = torch.linalg.vecdot(inputs.unsqueeze(1), true_rows.view(B, T, D)) + true_shift.view(B, T)
    return true, torch.addmm(sampled_shift, inputs, sampled_rows.t())


def nce_loss(*leaves: Tensor) -> Tensor:
    true, noise = logits(*leaves)
    return (softplus(true) - true / true.shape[1]).sum(1) + softplus(noise).sum(1)


def sampled_softmax_loss(*leaves_and_ids: Tensor) -> Tensor:
    *leaves, labels, sampled = leaves_and_ids
    true, noise = logits(*leaves)
    every = torch.cat([true, without_hits(noise, labels, sampled)], 1)
    return -log_softmax(every, 1)[:, : true.shape[1]].mean(1)


LOSSES = {NCE: nce_loss, SOFTMAX: sampled_softmax_loss}


def without_hits(noise: Tensor, labels: Tensor, sampled: Tensor) -> Tensor:
    """-inf for every sampled class that is a true class of its example; such logits have gradient 0."""
    B = len(noise)
    if torch.compiler.is_compiling():
        # One comparison more in a loop that is fused anyway.
        return noise.masked_fill((labels.view(B, -1, 1) == sampled).any(1), -math.inf)
    # Hits are few: no pass over [B, S], neither here nor backward.
    order, by_id = sampled.sort()
    first = torch.searchsorted(order, labels)
    count = torch.searchsorted(order, labels, right=True) - first
    label = torch.arange(len(labels)).repeat_interleave(count)
    nth = torch.arange(len(label)) - (count.cumsum(0) - count)[label]
    with torch.no_grad():
        noise[label // (len(labels) // B), by_id[first[label] + nth]] = -math.inf
    return noise


def coalesce(
    labels: Tensor, sampled: Tensor, dw_true: Tensor, db_true: Tensor, dw_sampled: Tensor, db_sampled: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Ids ascending and unique, and the sums of the gradients of their rows and biases."""
    ids, inverse = torch.unique(torch.cat([labels, sampled]), return_inverse=True)
    to_true, to_sampled = inverse.split([len(labels), len(sampled)])
    dw = torch.zeros(len(ids), dw_true.shape[1]).index_add_(0, to_true, dw_true).index_add_(0, to_sampled, dw_sampled)
    db = torch.zeros(len(ids)).index_add_(0, to_true, db_true).index_add_(0, to_sampled, db_sampled)
    return ids, dw, db
