"""The losses as functions, in the order of arguments that ``torch.nn.functional`` has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from fastnce import _core
from fastnce._seed import Seed, integer, seed_words
from fastnce._types import SampledValues
from fastnce.torch import _autograd, _kernels, _ops

REDUCTIONS = ("mean", "sum", "none")


def log_uniform_candidates(
    target: Tensor, num_sampled: int, num_classes: int, *, unique: bool = True, seed: Seed = None, calls: Any = 0
) -> SampledValues:
    """Sample classes log-uniformly: :func:`fastnce.log_uniform_candidate_sampler`, also under ``torch.compile``.

    Args:
        target: ``[B]`` or ``[B, T]`` true classes, integers in [0, num_classes).
        num_sampled: Classes to sample, S.
        num_classes: Number of classes, V.
        unique: Sample without repetition.
        seed: Of the stream of samples, as in :func:`fastnce.log_uniform_candidate_sampler`.
        calls: The position in that stream: an int, or a scalar int64 tensor on the device of ``target``, which under
            ``torch.compile`` may change without compiling again.

    Returns:
        ``SampledValues(sampled_candidates int64 [S], true_expected_count float32 [B, T], sampled_expected_count
        float32 [S])``.

    Raises:
        ValueError: A class outside [0, num_classes); S < 1, or S > V with ``unique``.
        TypeError: Classes that are not integers.
    """
    require_tensors(target=target)
    if not isinstance(calls, Tensor):
        calls = torch.tensor(integer(calls, "calls"), dtype=torch.int64, device=target.device)
    arguments = (target, calls, seed_tensor(seed), num_sampled, unique, num_classes)
    return SampledValues(*torch.ops.fastnce.log_uniform_candidates(*arguments))


def nce_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    bias: Tensor,
    sampled_values: SampledValues,
    example_weight: Tensor | None = None,
    *,
    remove_accidental_hits: bool = False,
    reduction: str = "mean",
    ignore_index: int | None = -100,
    sparse: bool = True,
    precision: str | None = None,
) -> Tensor:
    """Noise-contrastive estimation loss, :func:`fastnce.nce_loss`, differentiable in input, tables and example weights.

    ::

        u[b, t] = x[b] . w[y[b, t]] + c[y[b, t]] - log Q(y[b, t])     x input, w weight, c bias, y target
        v[b, s] = x[b] . w[z[s]]    + c[z[s]]    - log Q(z[s])        z sampled classes, Q expected counts
        loss[b] = sum_t softplus(u[b, t]) - u[b, t] / T + sum_s softplus(v[b, s])

    Args:
        input: ``[B, D]``.
        target: ``[B]`` or ``[B, T]`` true classes, integers.
        weight: ``[V, D]`` class embeddings. Float32, float16 and bfloat16 may be mixed; float64 may not.
        bias: ``[V]``.
        sampled_values: From :func:`log_uniform_candidates`; samples are shared by the batch.
        example_weight: ``[B]`` factors of the examples' losses.
        remove_accidental_hits: Leave out sampled classes that are true classes of the example.
        reduction: ``"mean"`` over the examples that are not ignored (whatever their weights), ``"sum"``, or ``"none"``.
        ignore_index: Examples with this target are left out: a loss of 0, no gradient. ``None``: there are none, which
            saves some work on a CUDA device and in compiled graphs, where nobody can look whether there are.
        sparse: Gradients of weight and bias are sparse COO tensors, coalesced, instead of dense ones.
        precision: ``"highest"``, ``"high"`` or ``"medium"``; ``None`` for the setting of :func:`fastnce.set_precision`.

    Returns:
        A scalar, or ``[B]`` for ``"none"``; float64 for float64 inputs, else float32.

    Raises:
        ValueError: Shapes that do not match, classes out of range (on the CPU), tensors on different devices.
        TypeError: Unsupported or mixed dtypes.
    """
    if not isinstance(sampled_values, tuple | list) or len(sampled_values) != 3:
        got = f"{len(sampled_values)} values" if isinstance(sampled_values, tuple | list) else "something else"
        raise ValueError(f"sampled_values is {got}: expected three values, {SampledValues._fields}")
    require_tensors(**dict(zip(SampledValues._fields, sampled_values, strict=True)))
    require_tensors(target=target, weight=weight)
    num_true = target.shape[1] if target.dim() == 2 else 1
    num_sampled = sampled_values[0].numel()
    sizes = (num_sampled, weight.shape[0] if weight.dim() else 0, num_true)
    candidates = (*sampled_values, None, None, *sizes)
    options = (remove_accidental_hits, precision, sparse)
    return sampled_loss(input, target, weight, bias, candidates, example_weight, reduction, ignore_index, options)


def sampled_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    bias: Tensor,
    candidates: tuple[Any, ...],
    example_weight: Tensor | None,
    reduction: str,
    ignore_index: int | None,
    options: tuple[bool, str | None, bool],
) -> Tensor:
    """:func:`nce_loss`, given ``candidates`` and ``options`` as the operators take them."""
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction = {reduction!r}: expected 'mean', 'sum' or 'none'")
    require_tensors(input=input, target=target, weight=weight, bias=bias)
    if example_weight is not None:
        require_tensors(weight=example_weight)
        if example_weight.shape != input.shape[:1]:
            raise ValueError(f"weight has shape {list(example_weight.shape)}: expected [B] = {list(input.shape[:1])}")
        if example_weight.device != input.device:
            raise ValueError(f"weight is on device {example_weight.device}: expected {input.device}, that of input")
    eager = is_eager(input, target, weight, bias)
    ignored = _ignored_examples(target, ignore_index, eager)
    if ignored is not None:
        target = _with_stand_ins(_wide(target), ignored)
        input = input.masked_fill(ignored.unsqueeze(1), 0)  # whatever stands there: 0 * NaN would be NaN
    # Where a graph is made, shapes must not depend on data.
    pad_rows = not (eager and options[2])
    arguments = (weight, bias, target, input, *candidates, *options, pad_rows)
    factors, mean = _factors(input, example_weight, ignored, reduction)
    gradients = [torch.is_grad_enabled() and tensor.requires_grad for tensor in (input, weight, bias)]
    constant = factors is None or not (torch.is_grad_enabled() and factors.requires_grad)
    if reduction != "none" and any(gradients) and constant:
        # One pass for the loss and its gradients, since the factor of every example is known.
        reduced: Callable[..., Any] = _autograd.Reduced.apply if eager else torch.ops.fastnce.nce_loss_and_grad
        total: Tensor = reduced(*arguments, factors, mean, gradients)[0]
        return total
    per_example: Callable[..., Tensor] = _autograd.PerExample.apply if eager else torch.ops.fastnce.nce_loss
    loss = per_example(*arguments)
    if factors is not None:
        loss = loss * factors
    elif mean:
        loss = loss * _kernels.equal_share(input)
    return loss if reduction == "none" else loss.sum()


def _factors(
    input: Tensor, example_weight: Tensor | None, ignored: Tensor | None, reduction: str
) -> tuple[Tensor | None, bool]:
    """``[B]`` factors of the losses; or ``None`` for equal ones, and whether those are of a mean."""
    mean = reduction == "mean"
    if example_weight is None and ignored is None:
        return None, mean
    factors = input.new_ones(input.shape[0]) if example_weight is None else example_weight
    factors = factors.to(torch.float64 if input.dtype == torch.float64 else torch.float32)
    count: Any = input.shape[0]
    if ignored is not None:
        factors = factors.masked_fill(ignored, 0)
        count = (~ignored).sum()
    return factors / count if mean else factors, False


def _ignored_examples(target: Tensor, ignore_index: int | None, eager: bool) -> Tensor | None:
    """``[B]``: which examples to leave out; ``None`` where it is known that there are none."""
    if ignore_index is None:
        return None
    # On a device, or while a graph is made, nobody may look.
    if eager and target.device.type == "cpu" and not _core.contains(target, "labels", ignore_index):
        return None
    ignored = _wide(target) == ignore_index
    return ignored.any(1) if target.dim() == 2 else ignored


def _wide(target: Tensor) -> Tensor:
    """Integers as int64: narrow ones would wrap what they are compared with. What is none is left to be refused."""
    return target if target.is_floating_point() or target.dtype == torch.bool else target.long()


def _with_stand_ins(target: Tensor, ignored: Tensor) -> Tensor:
    """``target`` with the class of another example for the ignored ones', so that no further class takes part."""
    if target.shape[0] == 0:
        return target
    kept = target.index_select(0, ignored.to(torch.uint8).argmin().unsqueeze(0))
    mask = ignored if target.dim() == 1 else ignored.unsqueeze(1)
    # If all are ignored, that one is, too: then any class in range will do.
    return torch.where(mask, torch.where(ignored.all(), 0, kept), target)


def is_eager(*tensors: Tensor) -> bool:
    """Whether tensors are just memory, and nothing records what is done with them."""
    if torch.compiler.is_compiling() or is_in_torch_dispatch_mode():
        return False
    return all(type(tensor) in (Tensor, torch.nn.Parameter) for tensor in tensors)


def seed_tensor(seed: Seed) -> Tensor:
    """A seed's two 64-bit words as the operators take them."""
    words = [word - 2**64 if word >= 2**63 else word for word in seed_words(seed)]
    return torch.tensor(words, dtype=torch.int64, device="cpu")


def require_tensors(**tensors: Any) -> None:
    """Throws TypeError, naming the argument, for what is no tensor."""
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} is a {type(tensor).__name__}: expected a torch.Tensor")
