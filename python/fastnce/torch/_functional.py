"""The losses as functions, in the order of arguments that ``torch.nn.functional`` has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fastnce._seed import Seed, int64
from fastnce._types import Precision, SampledValues
from fastnce.torch import _autograd, _kernels
from fastnce.torch._arguments import (
    Reduction,
    is_eager,
    require_device,
    require_example_weight,
    require_integers,
    require_loss_arguments,
    require_sampled_values,
    require_tensors,
    seed_tensor,
)
from fastnce.torch._ignored import Batch, leave_out

__all__ = ["log_uniform_candidates", "nce_loss"]


def log_uniform_candidates(
    target: Tensor,
    num_sampled: int,
    num_classes: int,
    *,
    unique: bool = True,
    seed: Seed = None,
    calls: int | Tensor = 0,
) -> SampledValues:
    """Sample classes log-uniformly: :func:`fastnce.log_uniform_candidate_sampler`, also under ``torch.compile``.

    Args:
        target: ``[B]`` or ``[B, T]`` true classes, integers in [0, num_classes).
        num_sampled: Classes to sample, S.
        num_classes: Number of classes, V.
        unique: Sample without repetition.
        seed: Seed for sampling; see :func:`fastnce.log_uniform_candidate_sampler`.
        calls: The position in the stream of the seed: an int, or a scalar int64 tensor on the device of ``target``,
            which may change under ``torch.compile`` without recompilation.

    Returns:
        ``SampledValues(sampled_candidates int64 [S], true_expected_count float32 [B, T], sampled_expected_count
        float32 [S])``.

    Raises:
        ValueError: A class outside [0, num_classes); S < 1, or S > V with ``unique``.
        TypeError: Classes that are not integers.
    """
    require_tensors(target=target)
    require_integers("target", target)
    sizes = int64(num_sampled, "num_sampled"), bool(unique), int64(num_classes, "num_classes")
    if isinstance(calls, Tensor):
        require_integers("calls", calls)
        require_device(target.device, "target", calls=calls)
        if calls.dim() > 0:
            raise ValueError(f"calls has shape {list(calls.shape)}: expected a scalar")
    else:
        calls = torch.tensor(int64(calls, "calls"), dtype=torch.int64, device=target.device)
    arguments = (target, calls, seed_tensor(seed), *sizes)
    return SampledValues(*torch.ops.fastnce.log_uniform_candidates(*arguments))


def nce_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    bias: Tensor,
    sampled_values: tuple[Tensor, Tensor, Tensor] | list[Tensor],
    example_weight: Tensor | None = None,
    *,
    remove_accidental_hits: bool = False,
    reduction: Reduction = "mean",
    ignore_index: int | None = -100,
    sparse: bool = True,
    precision: Precision | None = None,
) -> Tensor:
    """Noise-contrastive estimation loss, :func:`fastnce.nce_loss`, differentiable in input, tables and example weights.

    ::

        u[b, t] = x[b] . w[y[b, t]] + c[y[b, t]] - log Q(y[b, t])     x input, w weight, c bias, y target
        v[b, s] = x[b] . w[z[s]]    + c[z[s]]    - log Q(z[s])        z sampled classes, Q expected counts
        loss[b] = sum_t softplus(u[b, t]) - u[b, t] / T + sum_s softplus(v[b, s])

    Args:
        input: ``[B, D]``.
        target: ``[B]`` or ``[B, T]`` true classes, integers.
        weight: ``[V, D]`` class embeddings. If one of input, weight and bias is float64, all must be; float32, float16
            and bfloat16 may be mixed.
        bias: ``[V]``.
        sampled_values: ``(sampled_candidates [S], true_expected_count [B, T], sampled_expected_count [S])``, as from
            :func:`log_uniform_candidates`; samples are shared by the batch.
        example_weight: ``[B]`` factors of the examples' losses.
        remove_accidental_hits: Leave out sampled classes that are true classes of the example.
        reduction: ``"mean"`` over the examples that are not ignored (whatever their weights), ``"sum"``, or ``"none"``.
        ignore_index: Examples whose classes are all ``ignore_index`` are left out: a loss of 0, gradients of 0. If all
            examples are, the mean is 0, too. ``None`` disables this, which saves work in compiled graphs, where reading
            the classes would break the graph, and on a CUDA device (not yet run on a GPU), where it would synchronise.
        sparse: Gradients of weight and bias are sparse COO tensors, coalesced, instead of dense ones.
        precision: ``"highest"``, ``"high"`` or ``"medium"``; ``None`` uses the setting of
            :func:`fastnce.set_precision`.

    Returns:
        A scalar, or ``[B]`` for ``"none"``; float64 for float64 inputs, else float32.

    Raises:
        ValueError: Shapes that do not match, tensors on different devices; on the CPU, classes out of range and rows of
            target in which only some classes are ``ignore_index`` (on a CUDA device, not yet run on a GPU, such an
            example's loss is NaN).
        TypeError: Unsupported or mixed dtypes.
    """
    tables = (weight, bias)
    require_loss_arguments(input, target, *tables, reduction, ignore_index)
    require_example_weight("example_weight", example_weight, input)
    require_sampled_values(sampled_values, input.device)
    sampled, true_count, sampled_count = sampled_values
    eager = is_eager(input, target, *tables)
    batch = leave_out(input, target, ignore_index, eager)
    num_true = target.shape[1] if target.dim() == 2 else 1
    sizes = (sampled.numel(), weight.shape[0] if weight.dim() else 0, num_true)
    # Ignored examples may hold counts without a logarithm; if all examples are ignored, none uses a sample.
    if batch.ignored is not None:
        true_count = batch.fill_ignored(true_count, 1)
        sampled_count = sampled_count.masked_fill(batch.ignored.all(), 1)
    candidates = (sampled, true_count, sampled_count, None, None, *sizes)
    options = (remove_accidental_hits, precision, sparse)
    return sampled_loss(batch, *tables, candidates, example_weight, reduction, options, eager)


def sampled_loss(
    batch: Batch,
    weight: Tensor,
    bias: Tensor,
    candidates: tuple[Any, ...],
    example_weight: Tensor | None,
    reduction: Reduction,
    options: tuple[bool, str | None, bool],
    eager: bool,
) -> Tensor:
    """:func:`nce_loss` of checked arguments, given ``candidates`` and ``options`` as the operators take them."""
    input = batch.input
    # Where a graph is made, shapes must not depend on data.
    pad_rows = not (eager and options[2])
    arguments = (weight, bias, batch.target, input, *candidates, *options, pad_rows)
    factors, mean = _factors(batch, example_weight, reduction)
    gradients = [torch.is_grad_enabled() and tensor.requires_grad for tensor in (input, weight, bias)]
    constant = factors is None or not (torch.is_grad_enabled() and factors.requires_grad)
    if reduction != "none" and any(gradients) and constant:
        # One pass for the loss and its gradients, since the factor of every example is known.
        reduced: Callable[..., Any] = _autograd.Reduced.apply if eager else torch.ops.fastnce.nce_loss_and_grad
        total: Tensor = reduced(*arguments, factors, mean, gradients)[0]
        return total if batch.ignored is None else total.masked_fill(batch.ignored.all(), 0)
    per_example: Callable[..., Tensor] = _autograd.PerExample.apply if eager else torch.ops.fastnce.nce_loss
    loss = batch.fill_ignored(per_example(*arguments), 0)
    if factors is not None:
        loss = loss * factors
    elif mean:
        loss = loss * _kernels.equal_share(input)
    return loss if reduction == "none" else loss.sum()


def _factors(batch: Batch, example_weight: Tensor | None, reduction: Reduction) -> tuple[Tensor | None, bool]:
    """``[B]`` factors of the losses; or ``None`` for equal ones, and whether those are of a mean."""
    input, ignored = batch.input, batch.ignored
    mean = reduction == "mean"
    if example_weight is None and ignored is None:
        return None, mean
    factors = input.new_ones(input.shape[0]) if example_weight is None else example_weight
    factors = batch.fill_ignored(factors.to(torch.float64 if input.dtype == torch.float64 else torch.float32), 0)
    if not mean:
        return factors, False
    # Without an example left the mean is 0, not 0 / 0.
    count: Any = max(input.shape[0], 1) if ignored is None else (~ignored).sum().clamp(min=1)
    return factors / count, False
