"""fastnce.torch: the module, its loss summed, and ``backward``; sparse gradients. Variants: eager and compiled; and
"autograd", which computes nothing: the time that PyTorch itself takes to hand over gradients of these sizes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import fastnce
import fastnce.torch
from protocol import Adapter, Outputs
from shapes import Candidates, Case


class Peer(Adapter):
    def __init__(self, threads: int, variant: str) -> None:
        super().__init__(threads)
        torch.set_num_threads(threads)
        fastnce.set_num_threads(threads)
        self._variant = variant

    def versions(self) -> dict[str, Any]:
        return {"torch": torch.__version__}

    def prepare(self, case: Case) -> None:
        shape = case.shape
        weights, biases = map(torch.from_numpy, case.table())
        options = {"num_true": shape.T, "reduction": "sum", "seed": 1}
        self._module = fastnce.torch.NCELoss(1, shape.D, 1, **options)
        self._module.num_embeddings, self._module.num_sampled = shape.V, shape.S
        self._module.weight, self._module.bias = map(torch.nn.Parameter, (weights, biases))
        self._batches = [(torch.from_numpy(y), torch.from_numpy(x).requires_grad_()) for y, x in case.batches]
        self._loss: Any = self._module
        if self._variant == "compile":
            torch.compiler.reset()
            self._loss = torch.compile(self._module, fullgraph=True, dynamic=False)
        elif self._variant == "autograd":
            labels, inputs = self._batches[0]
            self._loss(inputs, labels).backward()
            self._loss = HandOver(self._module.weight, self._module.bias, inputs)

    def step(self, batch: int, candidates: Candidates | None = None) -> Any:
        labels, inputs = self._batches[batch]
        weight, bias = self._module.weight, self._module.bias
        weight.grad = bias.grad = inputs.grad = None
        if candidates is None:
            loss = self._loss(inputs, labels)
        else:
            sampled = fastnce.SampledValues(*map(torch.from_numpy, candidates))
            loss = fastnce.torch.nce_loss(inputs, labels, weight, bias, sampled, reduction="none")
        loss.sum().backward() if loss.dim() else loss.backward()
        return loss.detach(), inputs.grad, weight.grad, bias.grad

    def outputs(self, result: Any) -> Outputs | None:
        if self._variant == "autograd":
            return None
        loss, dx, weight, bias = result
        losses = loss if loss.dim() else (loss / len(dx)).expand(len(dx))
        weight, bias = weight.coalesce(), bias.coalesce()
        return Outputs(*map(Tensor.numpy, (losses, dx, weight.indices()[0], weight.values(), bias.values())))


class HandOver:
    """A loss whose gradients are there already."""

    def __init__(self, *parameters: Tensor) -> None:
        self._parameters = parameters
        gradients = [parameter.grad for parameter in parameters]

        class Function(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, *parameters: Tensor) -> Tensor:
                return parameters[0].new_zeros(())

            @staticmethod
            def backward(ctx: Any, grad: Tensor) -> Any:
                return tuple(gradients)

        self._apply = Function.apply

    def __call__(self, inputs: Tensor, labels: Tensor) -> Tensor:
        return self._apply(*self._parameters[:2], inputs)
