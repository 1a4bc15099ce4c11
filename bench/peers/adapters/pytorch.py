"""PyTorch, eager, as an expert writes it: gather the few rows first, then keep autograd away from the table.

Measured and not reliably better: bmm, baddbmm or multiply-and-sum for the true logits; logsigmoid or
binary_cross_entropy_with_logits for the losses; sparse coalesce() or a sorted embedding_bag for the row sums.
Samples are drawn with replacement, the cheapest way; their expected counts come from a table made once.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from protocol import Adapter, Outputs
from shapes import Candidates, Case


class Peer(Adapter):
    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        torch.set_num_threads(threads)

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
        return self._loss_and_grad(labels, inputs, sampled, log_true, log_sampled)

    def _loss_and_grad(
        self, labels: Tensor, inputs: Tensor, sampled: Tensor, log_true: Tensor, log_sampled: Tensor
    ) -> tuple[Tensor, ...]:
        B, T, D = self._shape.B, self._shape.T, self._shape.D
        true_rows = self._weights.index_select(0, labels).requires_grad_()
        sampled_rows = self._weights.index_select(0, sampled).requires_grad_()
        # The gradient of a bias is that of bias - log Q, which saves an operation per logit.
        true_shift = self._biases.index_select(0, labels).sub_(log_true).requires_grad_()
        sampled_shift = self._biases.index_select(0, sampled).sub_(log_sampled).requires_grad_()

        true = torch.linalg.vecdot(inputs.unsqueeze(1), true_rows.view(B, T, D)) + true_shift.view(B, T)
        noise = torch.addmm(sampled_shift, inputs, sampled_rows.t())
        loss = (softplus(true) - true / T).sum(1) + softplus(noise).sum(1)
        leaves = [inputs, true_rows, sampled_rows, true_shift, sampled_shift]
        dx, dw_true, dw_sampled, db_true, db_sampled = torch.autograd.grad(loss, leaves, self._ones)

        ids, inverse = torch.unique(torch.cat([labels, sampled]), return_inverse=True)
        to_true, to_sampled = inverse.split([B * T, len(sampled)])
        dw = torch.zeros(len(ids), D).index_add_(0, to_true, dw_true).index_add_(0, to_sampled, dw_sampled)
        db = torch.zeros(len(ids)).index_add_(0, to_true, db_true).index_add_(0, to_sampled, db_sampled)
        return loss, dx, ids, dw, db

    def outputs(self, result: Any) -> Outputs:
        return Outputs(*(tensor.detach().numpy() for tensor in result))
