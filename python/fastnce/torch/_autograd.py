"""The losses' backward formulas, as autograd functions for eager mode and for the operators."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fastnce.torch import _kernels
from fastnce.torch._kernels import BIASES, INPUTS, PAD_ROWS, SPARSE, TENSORS, WEIGHTS
from fastnce.torch._shapes import certainly

# PyTorch warns, once per process, that invariants of sparse tensors are not checked by default. The step of Adagrad on
# a sparse gradient of ours triggers it, and users cannot act on it. So it is triggered here, silenced; settings stay.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    _one = torch.ones((1, 1), device="cpu")
    torch.sparse_coo_tensor(_one.long() - 1, _one[0], (1,), device="cpu")


class _Receiver(NamedTuple):
    """A tensor that gets a gradient."""

    position: int
    """Among an operator's arguments."""
    shape: torch.Size
    dtype: torch.dtype


def _receivers(arguments: Any) -> list[_Receiver]:
    """Inputs, weights and biases."""
    tensors = [(position, arguments[position]) for position in (INPUTS, WEIGHTS, BIASES)]
    return [_Receiver(position, tensor.shape, tensor.dtype) for position, tensor in tensors]


def _gradients(
    ctx: Any, count: int, wanted: Any, receivers: list[_Receiver], sparse: bool, padded: bool, results: Any
) -> tuple[Tensor | None, ...]:
    """The gradients of an operator's ``count`` arguments."""
    grad_inputs, ids, *tables = results
    gradients: list[Tensor | None] = [None] * count
    for receiver, is_wanted, values in zip(receivers, wanted, (grad_inputs, *tables), strict=True):
        if not is_wanted:
            continue
        gradient = values.to(receiver.dtype)
        if receiver.position != INPUTS and sparse:
            # Coalesced unless padded: looking whether it is would cost more than the call.
            gradient = torch.sparse_coo_tensor(
                ids.unsqueeze(0),
                gradient,
                receiver.shape,
                device=gradient.device,
                is_coalesced=not padded,
                check_invariants=False,
            )
        elif receiver.position != INPUTS:
            gradient = gradient.new_zeros(receiver.shape).index_add_(0, ids, gradient)
        gradients[receiver.position] = gradient
    # Autograd moves a sparse tensor without other references, and loses the coalesced flag; it copies others.
    ctx.held = gradients
    return tuple(gradients)


def _once(backward: Callable[..., Any]) -> Callable[..., Any]:
    """PyTorch's ``once_differentiable``, which ignores what does not depend on the incoming gradient.

    Ours depend on the saved tensors, too, and a second derivative without that part would be wrong.
    """
    refusing = once_differentiable(backward)

    def guarded(ctx: Any, incoming: Tensor | None, *others: Any) -> Any:
        if incoming is not None and torch.is_grad_enabled():
            incoming = incoming.detach().requires_grad_()
        return refusing(ctx, incoming, *others)

    return guarded


class Reduced(torch.autograd.Function):
    """``nce_loss_and_grad`` in eager mode, without the dispatcher, which takes longer than a small loss."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Any:
        output = _kernels.nce_loss_and_grad(*arguments)
        Reduced.keep(ctx, arguments, output)
        return output

    @staticmethod
    def keep(ctx: Any, inputs: Any, output: Any) -> None:
        """What ``backward`` needs."""
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)  # zeros for each of those
        ctx.save_for_backward(*output[1:])
        ctx.receivers, ctx.wanted, ctx.count = _receivers(inputs), inputs[-1], len(inputs)
        ctx.sparse, ctx.padded = inputs[SPARSE], inputs[PAD_ROWS]

    @staticmethod
    @_once
    def backward(ctx: Any, grad_total: Tensor | None, *_: Any) -> tuple[Any, ...]:
        """All examples' losses have ``grad_total`` in common, so that it may multiply sums over examples."""
        if grad_total is None:
            return (None,) * ctx.count
        if certainly(ctx.receivers[0].shape[0] == 0):
            grad_total = grad_total.new_zeros(())  # the sampled rows of an empty batch stay 0, where 0 * inf is NaN
        grad_inputs, ids, *tables = ctx.saved_tensors
        results = (grad_inputs * grad_total, ids, *(values * grad_total for values in tables))
        return _gradients(ctx, ctx.count, ctx.wanted, ctx.receivers, ctx.sparse, ctx.padded, results)


class PerExample(torch.autograd.Function):
    """``nce_loss`` in eager mode."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Any:
        PerExample.keep(ctx, arguments, None)
        return _kernels.nce_loss(*arguments)

    @staticmethod
    def keep(ctx: Any, inputs: Any, output: Any) -> None:
        """What ``backward`` needs."""
        ctx.save_for_backward(*inputs[:TENSORS])
        ctx.options = inputs[TENSORS:]

    @staticmethod
    @_once
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Any, ...]:
        """Every example has a factor of its own, and row gradients are sums over examples: they are made only now."""
        wanted = [ctx.needs_input_grad[position] for position in (INPUTS, WEIGHTS, BIASES)]
        arguments = (*ctx.saved_tensors, *ctx.options)  # unpacked once: checkpointing allows no more
        _, *results = torch.ops.fastnce.nce_loss_and_grad(*arguments, grad_loss.contiguous(), False, wanted)
        sparse, padded = arguments[SPARSE], arguments[PAD_ROWS]
        return _gradients(ctx, len(arguments), wanted, _receivers(arguments), sparse, padded, results)
