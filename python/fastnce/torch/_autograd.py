"""The losses and their backward formulas: one autograd function for eager mode and for graphs, where it is traced."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from fastnce.torch import _kernels
from fastnce.torch._arguments import is_eager
from fastnce.torch._ignored import ignored_labels
from fastnce.torch._kernels import Gradients
from fastnce.torch._schema import ARGUMENTS, TENSORS, Fields, arguments_of
from fastnce.torch._shapes import certainly
from fastnce.torch._update import Update

# PyTorch warns, once per process, that invariants of sparse tensors are not checked by default. The step of Adagrad on
# a sparse gradient of ours triggers it, and users cannot act on it. So it is triggered here, silenced; settings stay.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    _one = torch.ones((1, 1), device="cpu")
    torch.sparse_coo_tensor(_one.long() - 1, _one[0], (1,), device="cpu")

_NOTHING = (None, None, None)
_Three = tuple[Tensor | None, Tensor | None, Tensor | None]


# What a backward formula knows of a call besides tensors: shapes and dtypes of the receivers, None for no biases; which
# gradients are wanted; whether those of tables are sparse, their rows padded, and whether they are of all classes.
_Kept: TypeAlias = tuple[tuple[Any, ...], tuple[Any, ...], Gradients, bool, bool, bool]


def _kept(fields: Fields, wanted: Gradients) -> _Kept:
    inputs, weights, biases = fields["inputs"], fields["weights"], fields["biases"]
    layout = fields["sparse"], fields["pad_rows"], fields["all_classes"]
    if biases is None:
        return (inputs.shape, weights.shape, None), (inputs.dtype, weights.dtype, None), (*wanted[:2], False), *layout
    return (inputs.shape, weights.shape, biases.shape), (inputs.dtype, weights.dtype, biases.dtype), wanted, *layout


def gradients_of(ctx: Any, kept: _Kept, results: Any) -> _Three:
    """The gradients of the receivers from those of inputs and rows, in the dtypes of their tensors."""
    grad_inputs, ids, *rows = results
    shapes, dtypes, wanted, sparse, padded_rows, all_classes = kept
    indices = ids.unsqueeze(0) if sparse and (wanted[1] or wanted[2]) else None
    gradients: list[Tensor | None] = [None, None, None]
    # Autograd moves a sparse tensor without other references, and loses the coalesced flag; it copies others.
    held: list[Tensor] = []
    ctx.held = held
    for at, values in enumerate((grad_inputs, *rows)):
        dtype, shape = dtypes[at], shapes[at]
        if not wanted[at]:
            continue
        gradient = values if values.dtype == dtype else values.to(dtype)
        if at > 0 and sparse:
            # Coalesced unless padded: looking whether it is would cost more than the call.
            gradient = torch.sparse_coo_tensor(
                indices,
                gradient,
                shape,
                device=gradient.device,
                is_coalesced=not padded_rows,
                check_invariants=False,
            )
            held.append(gradient)
        elif at > 0 and not all_classes:
            gradient = gradient.new_zeros(shape).index_add_(0, ids, gradient)
        gradients[at] = gradient
    first, second, third = gradients
    return first, second, third


class _OnlyFirst(torch.autograd.Function):
    """Gradients that depend on what they are gradients of, in a way that has no formula."""

    @staticmethod
    def forward(ctx: Any, gradients: _Three, *_depends_on: Tensor | None) -> _Three:
        return gradients

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        raise RuntimeError("cannot differentiate twice: the losses of fastnce have first derivatives only")


def once(backward: Callable[..., _Three]) -> Callable[..., _Three]:
    """Makes second derivatives errors.

    PyTorch's ``once_differentiable`` would not do: its results depend on nothing, so that a second derivative that
    reaches the same tensors on another path would lack ours, without an error.
    """

    def guarded(ctx: Any, incoming: Tensor | None) -> _Three:
        if not torch.is_grad_enabled():
            ctx.receivers = None  # as autograd frees what it saved
            return backward(ctx, incoming)
        if ctx.receivers is None:
            raise RuntimeError(
                "cannot differentiate twice: expected create_graph=False, as in the backward pass before this"
            )
        with torch.no_grad():
            gradients = backward(ctx, incoming)
        refusing: _Three = _OnlyFirst.apply(gradients, incoming, *ctx.receivers)
        return refusing

    return guarded


def _loss_and_grad(eager: bool, fields: Fields, *options: Any) -> tuple[Any, ...]:
    """In eager mode past the dispatcher, which takes longer than a small loss."""
    if eager:
        return _kernels.loss_and_grad(fields, *options)
    results: tuple[Tensor, ...] = torch.ops.fastnce.sampled_loss_and_grad(*arguments_of(fields), *options)
    return results


def _keep_total(ctx: Any, fields: Fields, wanted: Gradients, results: Any) -> None:
    ctx.set_materialize_grads(False)  # zeros for results that are not differentiable
    ctx.kept, ctx.padding, ctx.num_true = _kept(fields, wanted), fields["padding"], fields["num_true"]
    labels, offsets = fields["labels"], fields["label_offsets"]
    ctx.save_for_backward(None if ctx.padding is None and offsets is None else labels, offsets, *results)


@once
def _of_total(ctx: Any, grad_total: Tensor | None) -> _Three:
    """All examples' losses have ``grad_total`` in common, so that it may multiply sums over examples."""
    if grad_total is None:
        return _NOTHING
    kept: _Kept = ctx.kept
    labels, offsets, grad_inputs, ids, *rows = ctx.saved_tensors
    shape, wanted = kept[0][0], kept[2]
    ignored = None
    if any(certainly(extent == 0) for extent in shape[:-1]):
        grad_total = grad_total.new_zeros(())  # the sampled rows of an empty batch stay 0, where 0 * inf is NaN
    elif labels is not None:
        ignored = ignored_labels(labels, offsets, ctx.padding, ctx.num_true, shape)
        if ignored is not None:
            grad_total = grad_total.masked_fill(ignored.all(), 0)
    if wanted[0]:
        grad_inputs = grad_inputs * grad_total
        if ignored is not None:
            grad_inputs = grad_inputs.masked_fill(ignored.unsqueeze(-1), 0)
    rows = [values * grad_total if is_wanted else None for values, is_wanted in zip(rows, wanted[1:], strict=True)]
    return gradients_of(ctx, kept, (grad_inputs, ids, *rows))


def _keep_examples(ctx: Any, fields: Fields) -> None:
    tensors = [fields[name] if isinstance(fields[name], Tensor) else None for name in TENSORS]
    ctx.save_for_backward(*tensors)
    ctx.options = {name: value for name, value in fields.items() if not isinstance(value, Tensor)}


def _kept_examples(ctx: Any) -> Fields:
    tensors = dict(zip(TENSORS, ctx.saved_tensors, strict=True))  # unpacked once: checkpointing allows no more
    return {name: ctx.options[name] if name in ctx.options else tensors[name] for name in ARGUMENTS}


@once
def _of_examples(ctx: Any, grad_loss: Tensor) -> _Three:
    """Every example has a factor of its own, and row gradients are sums over examples: they are made only now."""
    wanted: Gradients = ctx.needs_input_grad[:3]
    fields = _kept_examples(ctx)
    grad_loss = grad_loss.contiguous()
    _, *results = _loss_and_grad(is_eager(grad_loss), fields, grad_loss, False, wanted)
    return gradients_of(ctx, _kept(fields, wanted), results)


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        weights: Tensor,
        biases: Tensor | None,
        call: tuple[Fields, Tensor | None, bool, Gradients, bool],
    ) -> Any:
        fields, grad_loss, mean, wanted, eager = call  # one argument: PyTorch looks at each of them
        ctx.receivers = inputs, weights, biases
        total, *results = _loss_and_grad(eager, fields, grad_loss, mean, wanted)
        _keep_total(ctx, fields, wanted, results)
        return total

    @staticmethod
    def backward(ctx: Any, grad_total: Tensor | None) -> Any:
        return *_of_total(ctx, grad_total), None


class _Examples(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weights: Tensor, biases: Tensor | None, fields: Fields, eager: bool) -> Any:
        _keep_examples(ctx, fields)
        ctx.receivers = inputs, weights, biases
        return _kernels.loss(fields) if eager else torch.ops.fastnce.sampled_losses(*arguments_of(fields))

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor) -> Any:
        return *_of_examples(ctx, grad_loss), None, None


class _Updating(torch.autograd.Function):
    """The loss of each example, whose backward pass updates the tables: they get no gradients."""

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weights: Tensor, biases: Tensor | None, fields: Fields, update: Update
    ) -> Any:
        _keep_examples(ctx, fields)
        ctx.update = update
        return _kernels.loss(fields)

    @staticmethod
    @torch._disable_dynamo  # which would follow into the core where a function with the backward pass is compiled
    def backward(ctx: Any, grad_loss: Tensor) -> Any:
        update: Update = ctx.update
        update.require_first()
        weight, bias = update.updated
        wanted: Gradients = ctx.needs_input_grad[0], weight is not None, bias is not None
        fields = _kept_examples(ctx)
        with update.step() as optimizer:
            gradient = _kernels.update(fields, grad_loss.contiguous(), wanted, optimizer)
        return None if gradient is None else gradient.to(fields["inputs"].dtype), None, None, None, None


def total(fields: Fields, grad_loss: Tensor | None, mean: bool, gradients: Gradients, *, eager: bool = False) -> Tensor:
    """The sum or the mean of the losses; its gradients are computed along with it."""
    call = (fields, grad_loss, mean, gradients, eager)
    result: Tensor = _Total.apply(fields["inputs"], fields["weights"], fields["biases"], call)
    return result


def examples(fields: Fields, *, eager: bool = False) -> Tensor:
    """The loss of each example."""
    result: Tensor = _Examples.apply(fields["inputs"], fields["weights"], fields["biases"], fields, eager)
    return result


def updating(fields: Fields, update: Update) -> Tensor:
    """The loss of each example; its backward pass makes an update."""
    result: Tensor = _Updating.apply(fields["inputs"], fields["weights"], fields["biases"], fields, update)
    return result
