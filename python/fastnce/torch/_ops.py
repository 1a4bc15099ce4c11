"""The operators that PyTorch knows, ``torch.ops.fastnce``: each a call of the library, the shapes of its results for
``torch.compile``, and its backward formula.

An operator draws the same samples whenever it is given the same ``calls``, so that what is computed again, by a
backward pass or by activation checkpointing, meets the samples it met before. Arguments have the names that the
library's errors use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fastnce import _core
from fastnce._arrays import like
from fastnce._devices import cuda_device_of
from fastnce._sampled_loss import run
from fastnce.torch._stream import next_call

# Samples are given, or drawn: those of call number `calls` (a scalar where the labels are) of the stream of `seed` (two
# words, always on the CPU: a tensor, so that modules of different seeds share a compiled graph).
_LOSS_ARGUMENTS = (
    "Tensor weights, Tensor biases, Tensor labels, Tensor inputs, Tensor? sampled_candidates, "
    "Tensor? true_expected_count, Tensor? sampled_expected_count, Tensor? calls, Tensor? seed, "
    "int num_sampled, int num_classes, int num_true, bool remove_accidental_hits, str? precision, bool sparse, "
    "bool pad_rows"
)
# Where they stand.
_WEIGHTS, _BIASES, _LABELS, _INPUTS, _NUM_SAMPLED, _SPARSE, _PAD_ROWS = 0, 1, 2, 3, 9, 14, 15
_TENSORS = 9  # of them, all in front

_LIBRARY = torch.library.Library("fastnce", "DEF")
_LIBRARY.define(
    "log_uniform_candidates(Tensor true_classes, Tensor calls, Tensor seed, int num_sampled, bool unique, "
    "int range_max) -> (Tensor sampled_candidates, Tensor true_expected_count, Tensor sampled_expected_count)"
)
_LIBRARY.define("next_call(Tensor(a!) calls, Tensor target, Tensor key) -> Tensor")
_LIBRARY.define(f"nce_loss({_LOSS_ARGUMENTS}) -> Tensor")
_LIBRARY.define(
    f"nce_loss_and_grad({_LOSS_ARGUMENTS}, Tensor? grad_loss, bool mean, bool[3] gradients) -> "
    "(Tensor total, Tensor grad_inputs, Tensor row_ids, Tensor grad_weights, Tensor grad_biases)"
)


def _num_true(classes: Tensor) -> int:
    return classes.shape[1] if classes.dim() == 2 else 1


def _words(seed: Tensor | None) -> tuple[int, int]:
    first, second = (0, 0) if seed is None else seed.tolist()
    return first % 2**64, second % 2**64


def _position(calls: Tensor | None) -> tuple[int, Tensor | None]:
    """The number of a call; on a CUDA device a counter in its place, which the device counts up."""
    if calls is None:
        return 0, None
    if calls.is_cuda:
        return 0, calls.clone()
    call = int(calls)
    if call < 0:
        raise ValueError(f"calls = {call}: expected at least 0")
    return call, None


def _log_uniform_candidates(
    true_classes: Tensor, calls: Tensor, seed: Tensor, num_sampled: int, unique: bool, range_max: int
) -> tuple[Any, ...]:
    first, second = _words(seed)
    arguments = (true_classes, _num_true(true_classes), num_sampled, unique, range_max, first, second)
    call, counter = _position(calls)
    device = cuda_device_of(true_classes, "true_classes", range_max)
    if device is None:
        return tuple(map(like(true_classes), _core.log_uniform_candidates(*arguments, call, None, 0)))
    address = 0 if counter is None else counter.data_ptr()
    with device.call():
        values = _core.log_uniform_candidates(*arguments, call, device, address)
    return tuple(map(device.hand_over, values))


def _shapes_of_candidates(
    true_classes: Tensor, calls: Tensor, seed: Tensor, num_sampled: int, unique: bool, range_max: int
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
    seed: Tensor | None,
    num_sampled: int,
    num_classes: int,
    num_true: int,
    remove_accidental_hits: bool,
    precision: str | None,
    sparse: bool,
    pad_rows: bool,
) -> tuple[Any, ...]:
    call, counter = _position(calls)
    x = inputs.detach().resolve_neg()
    if x.dim() == 2 and x.stride(1) != 1:
        x = x.contiguous()
    return run(
        weights.detach().resolve_neg(),
        biases.detach().resolve_neg(),
        labels,
        x,
        num_sampled,
        num_classes,
        num_true,
        None if sampled is None else (sampled, true_count, sampled_count),
        remove_accidental_hits,
        "div",
        *_words(seed),
        call,
        0 if counter is None else counter.data_ptr(),
        precision,
        gradients,
        grad_loss,
        # 16-bit gradients are rounded once the upstream factor is known, which may be what keeps them from vanishing.
        None if x.dtype == torch.float64 else "float32",
        pad_rows,
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
    inputs: Tensor = arguments[_INPUTS]
    dtype = _loss_dtype(inputs)
    rows: Any = 0
    if gradients[1] or gradients[2]:
        entries = arguments[_LABELS].numel() + arguments[_NUM_SAMPLED]
        rows = entries if arguments[_PAD_ROWS] else torch.library.get_ctx().new_dynamic_size()
    width = arguments[_WEIGHTS].shape[1]
    return (
        inputs.new_empty((), dtype=dtype),
        inputs.new_empty(inputs.shape, dtype=dtype) if gradients[0] else inputs.new_empty((0,)),
        inputs.new_empty((rows,), dtype=torch.int64) if gradients[1] or gradients[2] else inputs.new_empty((0,)),
        inputs.new_empty((rows, width), dtype=dtype) if gradients[1] else inputs.new_empty((0,)),
        inputs.new_empty((rows,), dtype=dtype) if gradients[2] else inputs.new_empty((0,)),
    )


class _Receiver(NamedTuple):
    """A tensor that gets a gradient."""

    position: int
    """Among an operator's arguments."""
    shape: torch.Size
    dtype: torch.dtype


def _receivers(arguments: Any) -> list[_Receiver]:
    """Inputs, weights and biases."""
    tensors = [(position, arguments[position]) for position in (_INPUTS, _WEIGHTS, _BIASES)]
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
        if receiver.position != _INPUTS and sparse:
            # Coalesced unless padded: looking whether it is would cost more than the call.
            gradient = torch.sparse_coo_tensor(
                ids.unsqueeze(0), gradient, receiver.shape, is_coalesced=not padded, check_invariants=False
            )
        elif receiver.position != _INPUTS:
            gradient = gradient.new_zeros(receiver.shape).index_add_(0, ids, gradient)
        gradients[receiver.position] = gradient
    # Autograd takes over a sparse tensor that nobody else holds, and forgets that it is coalesced; others it copies.
    ctx.held = gradients
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
        ctx.receivers, ctx.wanted, ctx.count = _receivers(inputs), inputs[-1], len(inputs)
        ctx.sparse, ctx.padded = inputs[_SPARSE], inputs[_PAD_ROWS]

    @staticmethod
    @_once
    def backward(ctx: Any, grad_total: Tensor | None, *_: Any) -> tuple[Any, ...]:
        """All examples' losses have ``grad_total`` in common, so that it may multiply sums over examples."""
        if grad_total is None:
            return (None,) * ctx.count
        grad_inputs, ids, *tables = ctx.saved_tensors
        results = (grad_inputs * grad_total, ids, *(values * grad_total for values in tables))
        return _gradients(ctx, ctx.count, ctx.wanted, ctx.receivers, ctx.sparse, ctx.padded, results)


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
        wanted = [ctx.needs_input_grad[position] for position in (_INPUTS, _WEIGHTS, _BIASES)]
        arguments = (*ctx.saved_tensors, *ctx.options)  # unpacked once: checkpointing allows no more
        _, *results = torch.ops.fastnce.nce_loss_and_grad(*arguments, grad_loss.contiguous(), False, wanted)
        sparse, padded = arguments[_SPARSE], arguments[_PAD_ROWS]
        return _gradients(ctx, len(arguments), wanted, _receivers(arguments), sparse, padded, results)


for _name, _implementation, _shapes in (
    ("log_uniform_candidates", _log_uniform_candidates, _shapes_of_candidates),
    ("next_call", lambda *arguments: next_call(*arguments).clone(), lambda calls, *_: calls.clone()),
    ("nce_loss", _nce_loss, _shape_of_loss),
    ("nce_loss_and_grad", _nce_loss_and_grad, _shapes_of_gradients),
):
    _LIBRARY.impl(_name, _implementation, "CompositeExplicitAutograd")
    torch.library.register_fake(f"fastnce::{_name}", _shapes, lib=_LIBRARY)
for _name, _function in (("nce_loss", PerExample), ("nce_loss_and_grad", Reduced)):
    torch.library.register_autograd(f"fastnce::{_name}", _function.backward, setup_context=_function.keep, lib=_LIBRARY)
