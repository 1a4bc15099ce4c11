"""The operators that PyTorch knows, ``torch.ops.fastnce``: schema, kernel, shapes for ``torch.compile`` and backward.

An operator draws the same samples whenever it is given the same ``calls``, so that what is computed again, by a
backward pass or by activation checkpointing, meets the samples it met before.
"""

from __future__ import annotations

import torch

from fastnce.torch import _autograd, _kernels, _shapes
from fastnce.torch._ignored import mark_partly_ignored
from fastnce.torch._stream import next_call

# Samples are given, or drawn: those of call number `calls` (a scalar where the labels are) of the stream of `seed` (two
# words, always on the CPU: a tensor, so that modules of different seeds share a compiled graph).
_LOSS_ARGUMENTS = (
    "Tensor weights, Tensor biases, Tensor labels, Tensor inputs, Tensor? sampled_candidates, "
    "Tensor? true_expected_count, Tensor? sampled_expected_count, Tensor? calls, Tensor? seed, "
    "int num_sampled, int num_classes, int num_true, bool remove_accidental_hits, str? precision, bool sparse, "
    "bool pad_rows"
)


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


_LIBRARY = _new_library()
_LIBRARY.define(
    "log_uniform_candidates(Tensor true_classes, Tensor calls, Tensor seed, int num_sampled, bool unique, "
    "int range_max) -> (Tensor sampled_candidates, Tensor true_expected_count, Tensor sampled_expected_count)"
)
_LIBRARY.define("next_call(Tensor(a!) calls, Tensor target, Tensor key) -> Tensor")
_LIBRARY.define("mark_partly_ignored(Tensor target, int ignore_index) -> Tensor")
_LIBRARY.define(f"nce_loss({_LOSS_ARGUMENTS}) -> Tensor")
_LIBRARY.define(
    f"nce_loss_and_grad({_LOSS_ARGUMENTS}, Tensor? grad_loss, bool mean, bool[3] gradients) -> "
    "(Tensor total, Tensor grad_inputs, Tensor row_ids, Tensor grad_weights, Tensor grad_biases)"
)
for _name, _kernel, _shape in (
    ("log_uniform_candidates", _kernels.log_uniform_candidates, _shapes.candidates),
    ("next_call", lambda *arguments: next_call(*arguments).clone(), lambda calls, *_: calls.clone()),
    ("mark_partly_ignored", mark_partly_ignored, lambda target, ignore_index: torch.empty_like(target)),
    ("nce_loss", _kernels.nce_loss, _shapes.loss),
    ("nce_loss_and_grad", _kernels.nce_loss_and_grad, _shapes.loss_and_gradients),
):
    _LIBRARY.impl(_name, _kernel, "CompositeExplicitAutograd")
    torch.library.register_fake(f"fastnce::{_name}", _shape, lib=_LIBRARY)
for _name, _function in (("nce_loss", _autograd.PerExample), ("nce_loss_and_grad", _autograd.Reduced)):
    torch.library.register_autograd(f"fastnce::{_name}", _function.backward, setup_context=_function.keep, lib=_LIBRARY)
