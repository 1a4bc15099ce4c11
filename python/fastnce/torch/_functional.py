"""The losses as functions, in the order of arguments that ``torch.nn.functional`` has."""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from torch import Tensor

from fastnce._seed import Seed, int64
from fastnce._types import Precision, SampledValues
from fastnce.torch import _autograd
from fastnce.torch._arguments import (
    TRUE_TARGETS,
    Reduction,
    TrueTarget,
    is_eager,
    require_device,
    require_example_weight,
    require_factor,
    require_flag,
    require_integers,
    require_loss_arguments,
    require_option,
    require_sampled_values,
    require_tensors,
    seed_tensor,
)
from fastnce.torch._ignored import drop_unused_padding, ignored_examples
from fastnce.torch._kernels import share_of_mean
from fastnce.torch._lists import Classes, exclude_of, label_weights_of, split_lists
from fastnce.torch._schema import Fields, arguments_of, fields_of
from fastnce.torch._shapes import loss_dtype
from fastnce.torch._update import Update

Samples: TypeAlias = tuple[Tensor, Tensor | None, Tensor | None] | list[Any]

__all__ = ["log_uniform_candidates", "nce_loss", "negative_sampling_loss", "sampled_softmax_loss"]


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
    arguments = (target, calls, seed_tensor(seed), "log_uniform", None, *sizes)
    return SampledValues(*torch.ops.fastnce.candidates(*arguments))


def nce_loss(
    input: Tensor,
    target: Classes,
    weight: Tensor,
    bias: Tensor | None,
    sampled_values: Samples,
    example_weight: Tensor | None = None,
    *,
    label_weights: Tensor | None = None,
    exclude: Classes | None = None,
    remove_accidental_hits: bool = False,
    true_target: TrueTarget = "mean",
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
        input: ``[B, D]``, or with more axes of examples, as in ``[B, L, D]``; then they are axes of what is ``[B]``
            below.
        target: ``[B]`` or ``[B, T]`` true classes, integers: the last axis is T if there are as many axes as in input.
            Or a list for each example, whose length is its T: a :class:`fastnce.Ragged` of tensors, values ``[n]`` and
            offsets ``[B + 1]``, or a nested tensor ``[B, j]`` of layout ``torch.jagged``. An example with an empty list
            has a loss of 0 and gradients of 0.
        weight: ``[V, D]`` class embeddings. If one of input, weight and bias is float64, all must be; float32, float16
            and bfloat16 may be mixed.
        bias: ``[V]``, or ``None``.
        sampled_values: ``(sampled_candidates [S], true_expected_count [B, T], sampled_expected_count [S])``, as from
            :func:`log_uniform_candidates`; samples are shared by the batch. Both counts may be ``None``: no log Q.
            Candidates ``[G, S]``, and counts like them, are of groups: group g serves the examples
            ``[g B / G, (g + 1) B / G)``. The counts of lists of true classes are ``[n]``.
        example_weight: ``[B]`` factors of the examples' losses.
        label_weights: Factors of the terms of each true class, of the shape of target; ``[n]``, or a nested tensor of
            the same offsets, for lists. Constants, not read where a class is ignored.
        exclude: A list of classes for each example, of either kind: sampled ones among them are left out, as if they
            were hits. All items that a user knows, for instance.
        remove_accidental_hits: Leave out sampled classes that are true classes of the example.
        true_target: ``"mean"``: each true class has target 1 / T. ``"one"``: 1, as NCE was published.
        reduction: ``"mean"`` over the examples that have a true class, ignored ones not counted (whatever their
            weights), ``"sum"``, or ``"none"``.
        ignore_index: A class that is left out, each by itself: T counts the others. Examples without another class have
            a loss of 0 and gradients of 0. If all examples are such, the mean is 0, too. ``None`` disables this, which
            saves work in compiled graphs and on a CUDA device.
        sparse: Gradients of weight and bias are sparse COO tensors, coalesced, instead of dense ones.
        precision: ``"highest"``, ``"high"`` or ``"medium"``; ``None`` uses the setting of
            :func:`fastnce.set_precision`.

    Returns:
        A scalar, or ``[B]`` for ``"none"``; float64 for float64 inputs, else float32.

    Raises:
        ValueError: Shapes that do not match, tensors on different devices; on the CPU, classes out of range (on a CUDA
            device such an example's loss is NaN).
        TypeError: Unsupported or mixed dtypes.
    """
    options = {"true_target": true_target, "remove_accidental_hits": remove_accidental_hits}
    return loss_of_labels(
        *(input, target, weight, bias, sampled_values, example_weight, label_weights, exclude),
        *(reduction, ignore_index),
        {**options, "sparse": sparse, "precision": precision},
    )


def sampled_softmax_loss(
    input: Tensor,
    target: Classes,
    weight: Tensor,
    bias: Tensor | None,
    sampled_values: Samples,
    example_weight: Tensor | None = None,
    *,
    label_weights: Tensor | None = None,
    exclude: Classes | None = None,
    remove_accidental_hits: bool = True,
    true_target: TrueTarget = "mean",
    reduction: Reduction = "mean",
    ignore_index: int | None = -100,
    sparse: bool = True,
    precision: Precision | None = None,
) -> Tensor:
    """Sampled softmax loss, :func:`fastnce.sampled_softmax_loss`, differentiable in input, tables and example weights.

    ::

        loss[b] = -sum_t log softmax([u[b], v[b]])[t] / T             u and v as in :func:`nce_loss`

    Arguments, results and errors are those of :func:`nce_loss`; accidental hits are removed by default.
    """
    options = {"family": "softmax", "true_target": true_target, "remove_accidental_hits": remove_accidental_hits}
    return loss_of_labels(
        *(input, target, weight, bias, sampled_values, example_weight, label_weights, exclude),
        *(reduction, ignore_index),
        {**options, "sparse": sparse, "precision": precision},
    )


def negative_sampling_loss(
    input: Tensor,
    target: Classes,
    weight: Tensor,
    bias: Tensor | None,
    sampled_candidates: Tensor,
    example_weight: Tensor | None = None,
    *,
    label_weights: Tensor | None = None,
    exclude: Classes | None = None,
    positive_weight: float | Tensor = 1.0,
    negative_weight: float | Tensor = 1.0,
    remove_accidental_hits: bool = False,
    reduction: Reduction = "mean",
    ignore_index: int | None = -100,
    sparse: bool = True,
    precision: Precision | None = None,
) -> Tensor:
    """Negative sampling loss, :func:`fastnce.negative_sampling_loss`, differentiable in input, tables, example weights.

    ::

        u[b, t] = x[b] . w[y[b, t]] + c[y[b, t]]                      no log Q
        v[b, s] = x[b] . w[z[s]]    + c[z[s]]
        loss[b] = a sum_t (softplus(u[b, t]) - u[b, t]) + m sum_s softplus(v[b, s])

    Args:
        sampled_candidates: ``[S]`` sampled classes, shared by the batch, or ``[G, S]`` of groups.
        positive_weight: a, a number or ``[B]``; a constant.
        negative_weight: m, likewise.

    The other arguments, results and errors are those of :func:`nce_loss`.
    """
    require_tensors(input=input)
    options = {
        "true_target": "one",
        "remove_accidental_hits": remove_accidental_hits,
        "positive_weight": require_factor("positive_weight", positive_weight, input),
        "negative_weight": require_factor("negative_weight", negative_weight, input),
    }
    samples = (sampled_candidates, None, None)
    return loss_of_labels(
        *(input, target, weight, bias, samples, example_weight, label_weights, exclude),
        *(reduction, ignore_index),
        {**options, "sparse": sparse, "precision": precision},
    )


def loss_of_labels(
    input: Tensor,
    target: Classes,
    weight: Tensor,
    bias: Tensor | None,
    sampled_values: Any,
    example_weight: Tensor | None,
    label_weights: Tensor | None,
    exclude: Classes | None,
    reduction: Reduction,
    ignore_index: int | None,
    options: dict[str, Any],
) -> Tensor:
    """Any loss of true classes; ``options`` are fields of the request. Those over all classes have no samples."""
    labels, offsets = split_lists("target", target)
    require_loss_arguments(input, labels, weight, bias, reduction, ignore_index)
    require_option("true_target", options["true_target"], TRUE_TARGETS)
    for name in ("remove_accidental_hits", "sparse"):
        options[name] = require_flag(name, options.get(name, False))
    require_example_weight("example_weight", example_weight, input)
    if not options.get("all_classes"):
        require_sampled_values(sampled_values, input.device)
        options["sampled_candidates"], *counts = sampled_values
        options["true_expected_count"], options["sampled_expected_count"] = counts
    excluded, exclude_offsets = exclude_of(exclude, input.device)
    fields = fields_of(
        weights=weight,
        biases=bias,
        labels=labels,
        label_offsets=offsets,
        label_weights=label_weights_of(label_weights, offsets, input),
        inputs=input,
        exclude=excluded,
        exclude_offsets=exclude_offsets,
        num_true=labels.shape[-1] if offsets is None and labels.dim() == input.dim() else 1,
        padding=ignore_index,
        **options,
    )
    tensors = (input, labels, weight) if bias is None else (input, labels, weight, bias)
    nested = offsets is not None and isinstance(target, Tensor)
    return sampled_loss(fields, example_weight, reduction, is_eager(*tensors), nested)


def sampled_loss(
    fields: Fields,
    example_weight: Tensor | None,
    reduction: Reduction,
    eager: bool,
    nested: bool,
    update: Update | None = None,
) -> Tensor:
    """The loss of a request whose arguments were checked. ``nested``: labels were a nested tensor. ``update``: made of
    the tables in the backward pass, in place of gradients, in eager mode."""
    if eager and fields["padding"] is not None:
        drop_unused_padding(fields)
    # Where a graph is made, shapes must not depend on data. On a CUDA device counting rows synchronises.
    fields["pad_rows"] = not (eager and (fields["sparse"] or fields["inputs"].is_cpu))
    receivers = (fields["inputs"], fields["weights"], fields["biases"])
    factors, mean = _factors(fields, example_weight, reduction)
    recorded = torch.is_grad_enabled()
    inputs, weights, biases = [recorded and tensor is not None and tensor.requires_grad for tensor in receivers]
    gradients = (inputs, weights, biases)
    constant = factors is None or not (recorded and factors.requires_grad)
    # Row gradients have n + S rows. In a backward graph, inductor (of PyTorch 2.13) finds the n of a nested tensor only
    # where its values are an input, as they are where each example has its factor.
    if update is None and reduction != "none" and any(gradients) and constant and (eager or not nested):
        # One pass for the loss and its gradients, since the factor of every example is known.
        if eager:
            return _autograd.total(fields, factors, mean, gradients, eager=True)
        total: Tensor = torch.ops.fastnce.sampled_total(*arguments_of(fields), factors, mean, gradients)
        return total
    loss: Tensor
    if update is not None:
        loss = _autograd.updating(fields, update)
    elif eager:
        loss = _autograd.examples(fields, eager=True)
    else:
        loss = torch.ops.fastnce.sampled_loss(*arguments_of(fields))
    if mean:
        loss = loss * share_of_mean(fields, reads=eager)
    if factors is not None:
        loss = loss * factors
    return loss if reduction == "none" else loss.sum()


def _factors(fields: Fields, example_weight: Tensor | None, reduction: Reduction) -> tuple[Tensor | None, bool]:
    """``[...]`` factors of the losses; or ``None`` for equal ones, and whether those are of a mean."""
    mean = reduction == "mean"
    if example_weight is None:
        return None, mean
    factors = example_weight.to(loss_dtype(fields["inputs"]))
    ignored = ignored_examples(fields)
    if ignored is not None:
        factors = factors.masked_fill(ignored, 0)  # whatever they are
    if not mean:
        return factors, False
    return factors / (max(factors.numel(), 1) if ignored is None else (~ignored).sum().clamp(min=1)), False
