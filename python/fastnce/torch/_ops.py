"""The operators that PyTorch knows, ``torch.ops.fastnce``: schema, kernel, shapes for ``torch.compile``.

Two for the whole family of losses, ``sampled_loss`` and ``sampled_total``: which loss it is, is data. They have
gradients, and consist of operators that have none, ``sampled_losses`` and ``sampled_loss_and_grad``. Only the latter
are in a compiled graph, which would call a backward formula of PyTorch's registry at every step, in vain.

An operator draws the same samples whenever it is given the same ``calls``, so that what is computed again, by a
backward pass or by activation checkpointing, meets the samples it met before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fastnce.torch import _autograd, _kernels, _sampling, _shapes
from fastnce.torch._schema import ARGUMENTS, SCHEMA, Fields, fields_from
from fastnce.torch._stream import next_call


def _new_library() -> torch.library.Library:
    """The namespace ``torch.ops.fastnce``, without the operators of an earlier import of this module.

    PyTorch has one owner of a namespace per process, which outlives this module: after ``importlib.reload``, and after
    an import that follows a removal from ``sys.modules``. So the namespace itself keeps it.
    """
    namespace = vars(torch.ops.fastnce)
    if "library" in namespace:
        namespace["library"]._destroy()
    library = namespace["library"] = torch.library.Library("fastnce", "DEF")
    return library


def _next_call(calls: Tensor, target: Tensor, seed: Tensor, recorded: bool) -> Tensor:
    number = next_call(calls, target, seed, recorded)
    return number.clone() if isinstance(number, Tensor) else torch.full_like(calls, number)


def _of_fields(function: Callable[..., Any]) -> Callable[..., Any]:
    count = len(ARGUMENTS)
    return lambda *arguments: function(fields_from(arguments[:count]), *arguments[count:])


def _loss_and_grad(function: Callable[..., tuple[Any, ...]]) -> Callable[..., tuple[Tensor, ...]]:
    """Operators have no optional results: what is not wanted is empty."""

    def call(fields: Fields, grad_loss: Tensor | None, mean: bool, gradients: list[bool]) -> tuple[Tensor, ...]:
        results = function(fields, grad_loss, mean, tuple(gradients))
        return tuple(results[0].new_empty((0,)) if result is None else result for result in results)

    return _of_fields(call)


_LIBRARY = _new_library()
_LIBRARY.define(
    "candidates(Tensor true_classes, Tensor calls, Tensor seed, str distribution, Tensor? weights, int num_sampled, "
    "bool unique, int range_max) -> "
    "(Tensor sampled_candidates, Tensor true_expected_count, Tensor sampled_expected_count)"
)
_LIBRARY.define(
    "call_sampler(Tensor classes, Tensor sampler, Tensor number, int num_sampled, int? ignore_index) -> "
    "(Tensor sampled_candidates, Tensor true_expected_count, Tensor sampled_expected_count)"
)
_LIBRARY.define("next_call(Tensor(a!) calls, Tensor target, Tensor seed, bool recorded) -> Tensor")
_LIBRARY.define(
    "top_k(Tensor input, Tensor weight, Tensor? bias, int k, Tensor? exclude, Tensor? exclude_offsets, "
    "str? precision) -> (Tensor scores, Tensor ids)"
)
_LIBRARY.define(
    "rank_of_labels(Tensor input, Tensor target, Tensor? target_offsets, Tensor weight, Tensor? bias, "
    "Tensor? exclude, Tensor? exclude_offsets, int? ignore_index, str? precision) -> Tensor"
)
_LIBRARY.define(f"sampled_losses({SCHEMA}) -> Tensor")
_LIBRARY.define(
    f"sampled_loss_and_grad({SCHEMA}, Tensor? grad_loss, bool mean, bool[3] gradients) -> "
    "(Tensor total, Tensor grad_inputs, Tensor row_ids, Tensor grad_weights, Tensor grad_biases)"
)
for _name, _kernel, _shape in (
    ("candidates", _kernels.candidates, _shapes.candidates),
    ("call_sampler", _sampling.call, _shapes.called),
    ("next_call", _next_call, lambda calls, *_: calls.clone()),
    ("top_k", _kernels.top_k, _shapes.top_k),
    ("rank_of_labels", _kernels.rank_of_labels, _shapes.rank_of_labels),
    ("sampled_losses", _of_fields(_kernels.loss), _of_fields(_shapes.loss)),
    ("sampled_loss_and_grad", _loss_and_grad(_kernels.loss_and_grad), _loss_and_grad(_shapes.loss_and_grad)),
):
    _LIBRARY.impl(_name, _kernel, "CompositeExplicitAutograd")
    _LIBRARY.impl(_name, torch.library.fallthrough_kernel, "Autograd")  # none has a gradient of its own
    torch.library.register_fake(f"fastnce::{_name}", _shape, lib=_LIBRARY)
_LIBRARY.define(f"sampled_loss({SCHEMA}) -> Tensor")
_LIBRARY.impl("sampled_loss", _of_fields(_autograd.examples), "CompositeImplicitAutograd")
_LIBRARY.define(f"sampled_total({SCHEMA}, Tensor? grad_loss, bool mean, bool[3] gradients) -> Tensor")
_LIBRARY.impl("sampled_total", _of_fields(_autograd.total), "CompositeImplicitAutograd")
