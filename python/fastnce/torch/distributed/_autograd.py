"""The step as autograd functions. All ranks of the process group run them together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastnce.torch._autograd import gradients_of, once
from fastnce.torch._kernels import Gradients
from fastnce.torch._update import Update
from fastnce.torch.distributed._shard import Result
from fastnce.torch.optim._base import Rows


class Step(NamedTuple):
    """A step of this rank, whose collectives all ranks run."""

    run: Callable[[Tensor | None, float, Gradients], Result]
    """Computes for factors ``[b]`` of the losses, the scale of their sum over all ranks, and the gradients wanted."""
    gradients: Gradients
    """What is computed: all that one of the ranks asks for."""
    ignored: Tensor
    """``[b]``: which of this rank's examples have no true class."""
    is_empty: bool
    """Whether no example of any rank has one."""
    size: int
    """P. Gradients of a table are averages over the ranks: those of its rows belong to a sum that is divided by P,
    those of this rank's inputs to its own loss."""
    sparse: bool
    all_classes: bool = False
    """Whether all rows have a gradient."""
    reads: tuple[Tensor, ...] = ()
    """What a step in the backward pass reads again: labels and the like, which may be the caller's memory."""
    update: Update | None = None
    """What the backward pass does with this rank's rows, which have no gradients then."""


def _keep(ctx: Any, step: Step, receivers: tuple[Tensor, Tensor, Tensor | None]) -> None:
    inputs, weights, biases = ctx.receivers = receivers
    shapes = inputs.shape, weights.shape, None if biases is None else biases.shape
    dtypes = inputs.dtype, weights.dtype, None if biases is None else biases.dtype
    wanted = ctx.needs_input_grad[:3] if step.update is None else (ctx.needs_input_grad[0], False, False)
    ctx.update = step.update
    ctx.kept = shapes, dtypes, wanted, step.sparse, False, step.all_classes


def _gradients(ctx: Any, factor: Tensor | float, grad_inputs: Tensor | None, rows: Any, *tables: Tensor | None) -> Any:
    if grad_inputs is not None:
        grad_inputs = grad_inputs.reshape(ctx.kept[0][0])
    scaled = [None if values is None else values * factor for values in (grad_inputs, *tables)]
    if ctx.update is not None:
        ctx.update.make(Rows(rows, *scaled[1:]))
    return gradients_of(ctx, ctx.kept, (scaled[0], rows, *scaled[1:]))


@once
def _of_total(ctx: Any, grad_total: Tensor) -> Any:
    ctx.note(float(grad_total))
    ignored, grad_inputs, *rows = ctx.saved_tensors
    if ctx.is_empty:
        grad_total = torch.zeros_like(grad_total)  # rows stay 0, where 0 * inf is NaN
    gradients = _gradients(ctx, grad_total, grad_inputs, *rows)
    if gradients[0] is not None:
        gradients[0].flatten(0, -2).masked_fill_(ignored.unsqueeze(1), 0)
    return gradients


@once
def _of_examples(ctx: Any, grad_losses: Tensor) -> Any:
    step: Step = ctx.step
    _ = ctx.saved_tensors  # raises RuntimeError where one was changed since, or is freed
    _, grad_inputs, *rows = step.run(grad_losses.reshape(-1), 1 / step.size, step.gradients)
    return _gradients(ctx, 1.0, None if grad_inputs is None else grad_inputs.mul_(step.size), *rows)


class Total(torch.autograd.Function):
    """The sum of the losses. Gradients are computed along with it: its backward pass has no collectives."""

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        weights: Tensor,
        biases: Tensor | None,
        call: tuple[Step, Tensor | None, float, Callable[[float], None]],
    ) -> Tensor:
        """``call``: the step, factors of the losses, the scale of their sum over all ranks, and what is told the factor
        of the backward pass."""
        step, factors, scale, note = call
        losses, grad_inputs, *rows = step.run(factors, scale, step.gradients)
        scaled = None if grad_inputs is None else grad_inputs.mul_(step.size)
        ctx.save_for_backward(step.ignored, scaled, *rows)
        ctx.note, ctx.is_empty = note, step.is_empty
        _keep(ctx, step, (inputs, weights, biases))
        return (losses if factors is None else losses * factors).sum() * (scale * step.size)

    @staticmethod
    def backward(ctx: Any, grad_total: Tensor) -> Any:
        if ctx.update is not None:
            ctx.update.require_first()
        return *_of_total(ctx, grad_total), None


class Examples(torch.autograd.Function):
    """The loss of each example. Its backward pass computes the gradients, with the collectives of another step."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weights: Tensor, biases: Tensor | None, step: Step) -> Tensor:
        ctx.step = step
        ctx.save_for_backward(inputs, weights, biases, *step.reads)
        _keep(ctx, step, (inputs, weights, biases))
        return step.run(None, 1.0, (False, False, False)).loss.reshape(inputs.shape[:-1])

    @staticmethod
    def backward(ctx: Any, grad_losses: Tensor) -> Any:
        if ctx.update is not None:
            ctx.update.require_first()
        return *_of_examples(ctx, grad_losses), None
