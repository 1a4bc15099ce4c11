"""The operators that PyTorch knows, ``torch.ops.fastnce``: each a call of the library, the shapes of its results for
``torch.compile``, and its backward formula.

An operator draws the same samples whenever it is given the same ``calls``, so that what is computed again, by a
backward pass or by activation checkpointing, meets the samples it met before. Arguments have the names that the
library's errors use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fastnce import _core
from fastnce._arrays import like
from fastnce._devices import cuda_device_of
from fastnce._sampled_loss import run
from fastnce.torch._stream import next_call

# Samples are given, or drawn: those of call number `calls` (a scalar where the labels are) of a seed's stream.
_LOSS_ARGUMENTS = (
    "Tensor weights, Tensor biases, Tensor labels, Tensor inputs, Tensor? sampled_candidates, "
    "Tensor? true_expected_count, Tensor? sampled_expected_count, Tensor? calls, int seed, int seed2, "
    "int num_sampled, int num_classes, bool remove_accidental_hits, str? precision, bool sparse"
)
_WEIGHTS, _BIASES, _LABELS, _INPUTS, _NUM_SAMPLED, _SPARSE = 0, 1, 2, 3, 10, 14  # where they stand
_TENSORS = 8  # of them, all in front

_LIBRARY = torch.library.Library("fastnce", "DEF")
_LIBRARY.define(
    "log_uniform_candidates(Tensor true_classes, Tensor calls, int seed, int seed2, int num_sampled, bool unique, "
    "int range_max) -> (Tensor sampled_candidates, Tensor true_expected_count, Tensor sampled_expected_count)"
)
_LIBRARY.define("next_call(Tensor(a!) calls, int stream) -> Tensor")
_LIBRARY.define(f"nce_loss({_LOSS_ARGUMENTS}) -> Tensor")
_LIBRARY.define(
    f"nce_loss_and_grad({_LOSS_ARGUMENTS}, Tensor? grad_loss, bool mean, bool[3] gradients) -> "
    "(Tensor total, Tensor grad_inputs, Tensor row_ids, Tensor grad_weights, Tensor grad_biases)"
)


def _num_true(classes: Tensor) -> int:
    return classes.shape[1] if classes.dim() == 2 else 1


def _log_uniform_candidates(
    true_classes: Tensor, calls: Tensor, seed: int, seed2: int, num_sampled: int, unique: bool, range_max: int
) -> tuple[Any, ...]:
    arguments = (true_classes, _num_true(true_classes), num_sampled, unique, range_max, seed % 2**64, seed2 % 2**64)
    device = cuda_device_of(true_classes, "true_classes", range_max)
    if device is None:
        return tuple(map(like(true_classes), _core.log_uniform_candidates(*arguments, int(calls), None, 0)))
    counter = calls.clone()  # which the device counts up
    with device.call():
        values = _core.log_uniform_candidates(*arguments, 0, device, counter.data_ptr())
    return tuple(map(device.hand_over, values))


def _shapes_of_candidates(
    true_classes: Tensor, calls: Tensor, seed: int, seed2: int, num_sampled: int, unique: bool, range_max: int
) -> tuple[Tensor, ...]:
    return (
        true_classes.new_empty((num_sampled,), dtype=torch.int64),
        true_classes.new_empty((true_classes.shape[0], _num_true(true_classes)), dtype=torch.float32),
        true_classes.new_empty((num_sampled,), dtype=torch.float32),
    )


def _call(
    grad_loss: Any,
    gradients: tuple[bool, bool, bool],
    weights: Tensor,
    biases: Tensor,
    labels: Tensor,
    inputs: Tensor,
    sampled: Tensor | None,
    true_count: Tensor | None,
    sampled_count: Tensor | None,
    calls: Tensor | None,
    seed: int,
    seed2: int,
    num_sampled: int,
    num_classes: int,
    remove_accidental_hits: bool,
    precision: str | None,
    sparse: bool,
) -> tuple[Any, ...]:
    call, counter = 0, None
    if calls is not None and calls.is_cuda:
        counter = calls.clone()  # which the device counts up
    elif calls is not None:
        call = int(calls)
    return run(
        weights.detach(),
        biases.detach(),
        labels,
        inputs.detach(),
        num_sampled,
        num_classes,
        _num_true(labels),
        None if sampled is None else (sampled, true_count, sampled_count),
        remove_accidental_hits,
        "div",
        seed % 2**64,
        seed2 % 2**64,
        call,
        0 if counter is None else counter.data_ptr(),
        precision,
        gradients,
        grad_loss,
        None,
        not sparse,  # a dense gradient adds rows up: padding does no harm there, and nobody has to know n
    )


def _nce_loss(*arguments: Any) -> Any:
    """The loss of each example, ``[B]``."""
    return _call(None, (False, False, False), *arguments)[0]


def _loss_dtype(inputs: Tensor) -> torch.dtype:
    return torch.float64 if inputs.dtype == torch.float64 else torch.float32


def _shape_of_loss(*arguments: Any) -> Tensor:
    inputs: Tensor = arguments[_INPUTS]
    return inputs.new_empty((inputs.shape[0],), dtype=_loss_dtype(inputs))


def equal_share(inputs: Tensor) -> float:
    """The factor of each loss in their mean."""
    return 1 / max(inputs.shape[0], 1)


def _nce_loss_and_grad(*arguments: Any) -> tuple[Any, ...]:
    """Sum or mean of the losses, or their sum times ``grad_loss``, and its gradients: empty ones where not wanted."""
    *shared, grad_loss, mean, gradients = arguments
    inputs: Tensor = arguments[_INPUTS]
    factor = grad_loss
    if mean:
        factor = equal_share(inputs)
        if inputs.is_cuda:
            factor = inputs.new_full((len(inputs),), factor, dtype=torch.float32)
    loss, *results = _call(factor, tuple(gradients), *shared)
    total = loss.sum() if factor is None else (loss * factor).sum()
    return total, *(inputs.new_empty((0,)) if result is None else result for result in results)


def _shapes_of_gradients(*arguments: Any) -> tuple[Tensor, ...]:
    gradients: list[bool] = arguments[-1]
    weights, biases, inputs = arguments[_WEIGHTS], arguments[_BIASES], arguments[_INPUTS]
    entries = arguments[_LABELS].numel() + arguments[_NUM_SAMPLED]
    rows: Any = 0
    if gradients[1] or gradients[2]:
        rows = torch.library.get_ctx().new_dynamic_size() if arguments[_SPARSE] else entries
    return (
        inputs.new_empty((), dtype=_loss_dtype(inputs)),
        inputs.new_empty(inputs.shape if gradients[0] else (0,)),
        inputs.new_empty((rows,), dtype=torch.int64 if gradients[1] or gradients[2] else None),
        weights.new_empty((rows, weights.shape[1])) if gradients[1] else inputs.new_empty((0,)),
        biases.new_empty((rows,)) if gradients[2] else inputs.new_empty((0,)),
    )


def _gradients(
    ctx: Any, count: int, wanted: Any, shapes: tuple[torch.Size, torch.Size], sparse: bool, results: Any
) -> tuple[Tensor | None, ...]:
    """The gradients of an operator's ``count`` arguments."""
    grad_inputs, ids, *rows = results
    gradients: list[Tensor | None] = [None] * count
    if wanted[0]:
        gradients[_INPUTS] = grad_inputs
    tables = []
    for position, is_wanted, values, shape in zip((_WEIGHTS, _BIASES), wanted[1:], rows, shapes, strict=True):
        if not is_wanted:
            continue
        if sparse:
            # Coalesced is what the library returns, and looking again would cost more than the call.
            table = torch.sparse_coo_tensor(ids.unsqueeze(0), values, shape, is_coalesced=True, check_invariants=False)
        else:
            table = values.new_zeros(shape).index_add_(0, ids, values)
        gradients[position] = table
        tables.append(table)
    if sparse:
        # Autograd takes over what nobody else holds, and forgets that it is coalesced; what is held it copies.
        ctx.held = tables
    return tuple(gradients)


def _once(backward: Callable[..., Any]) -> Callable[..., Any]:
    """PyTorch's ``once_differentiable``, which lets pass what does not depend on the incoming gradient.

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
        output = _nce_loss_and_grad(*arguments)
        Reduced.keep(ctx, arguments, output)
        return output

    @staticmethod
    def keep(ctx: Any, inputs: Any, output: Any) -> None:
        """What ``backward`` needs."""
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)  # zeros for each of those
        ctx.save_for_backward(*output[1:])
        ctx.shapes = inputs[_WEIGHTS].shape, inputs[_BIASES].shape
        ctx.sparse, ctx.wanted, ctx.count = inputs[_SPARSE], inputs[-1], len(inputs)

    @staticmethod
    @_once
    def backward(ctx: Any, grad_total: Tensor | None, *_: Any) -> tuple[Any, ...]:
        """All examples' losses have ``grad_total`` in common, so that it may multiply sums over examples."""
        if grad_total is None:
            return (None,) * ctx.count
        grad_inputs, ids, *rows = ctx.saved_tensors
        if not (type(grad_total) is Tensor and grad_total.device.type == "cpu" and grad_total.item() == 1):
            grad_inputs, rows = grad_inputs * grad_total, [values * grad_total for values in rows]
        results = (grad_inputs, ids, *rows)
        return _gradients(ctx, ctx.count, ctx.wanted, ctx.shapes, ctx.sparse, results)


class PerExample(torch.autograd.Function):
    """``nce_loss`` in eager mode."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Any:
        PerExample.keep(ctx, arguments, None)
        return _nce_loss(*arguments)

    @staticmethod
    def keep(ctx: Any, inputs: Any, output: Any) -> None:
        """What ``backward`` needs."""
        ctx.save_for_backward(*inputs[:_TENSORS])
        ctx.options = inputs[_TENSORS:]

    @staticmethod
    @_once
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Any, ...]:
        """Every example has a factor of its own, and row gradients are sums over examples: they are made only now."""
        weights, biases, *_ = ctx.saved_tensors
        wanted = [ctx.needs_input_grad[i] for i in (_INPUTS, _WEIGHTS, _BIASES)]
        arguments = (*ctx.saved_tensors, *ctx.options)
        _, *results = torch.ops.fastnce.nce_loss_and_grad(*arguments, grad_loss.contiguous(), False, wanted)
        shapes = weights.shape, biases.shape
        return _gradients(ctx, len(arguments), wanted, shapes, arguments[_SPARSE], results)


for _name, _implementation, _shapes in (
    ("log_uniform_candidates", _log_uniform_candidates, _shapes_of_candidates),
    ("next_call", lambda calls, stream: next_call(calls, stream).clone(), lambda calls, stream: calls.clone()),
    ("nce_loss", _nce_loss, _shape_of_loss),
    ("nce_loss_and_grad", _nce_loss_and_grad, _shapes_of_gradients),
):
    _LIBRARY.impl(_name, _implementation, "CompositeExplicitAutograd")
    torch.library.register_fake(f"fastnce::{_name}", _shapes, lib=_LIBRARY)
for _name, _function in (("nce_loss", PerExample), ("nce_loss_and_grad", Reduced)):
    torch.library.register_autograd(f"fastnce::{_name}", _function.backward, setup_context=_function.keep, lib=_LIBRARY)
