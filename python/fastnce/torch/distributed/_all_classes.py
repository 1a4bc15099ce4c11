"""What goes over all classes of a sharded table: exact losses, the best classes, ranks of labels."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from fastnce._seed import int64
from fastnce._types import Precision
from fastnce.torch._arguments import Reduction, TrueTarget, require_tensors
from fastnce.torch._lists import Classes, split_lists
from fastnce.torch.distributed import _evaluate
from fastnce.torch.distributed._batch import Batch
from fastnce.torch.distributed._call import Arguments, Table, attempt, require_labels
from fastnce.torch.distributed._exchange import Exchange
from fastnce.torch.distributed._schemes import step


def softmax_loss(
    input: Tensor,
    target: Classes,
    weight: Tensor,
    bias: Tensor | None,
    num_classes: int,
    example_weight: Tensor | None = None,
    *,
    label_weights: Tensor | None = None,
    exclude: Classes | None = None,
    true_target: TrueTarget = "mean",
    reduction: Reduction = "mean",
    ignore_index: int | None = -100,
    precision: Precision | None = None,
    process_group: dist.ProcessGroup | DeviceMesh | None = None,
) -> Tensor:
    """Cross entropy over all classes of a table that is spread over the ranks: :func:`fastnce.torch.softmax_loss`.

    All ranks call it together, each with its own examples. Inputs travel to the rows, and a number for each example;
    every rank scores all inputs against its own rows, twice if gradients are asked for. On CUDA devices a rank has at
    most 2^22 rows.

    Args:
        input: ``[b, D]``, or with more axes of examples: this rank's.
        target: Their true classes, of the whole table, as :func:`fastnce.torch.softmax_loss` takes them.
        weight: ``[rows, D]``: the rows of this rank, those of the classes r, r + P, r + 2 P, ... on rank r of P.
        bias: ``[rows]``, or ``None``.
        num_classes: Number of classes of the whole table, V.
        example_weight: ``[b]`` factors of the examples' losses.
        label_weights: Factors of the targets, in the shape of ``target``; constants.
        exclude: Lists of classes that each example leaves out of its softmax, unless they are its labels.
        true_target: ``"mean"``: each true class has target 1 / T. ``"one"``: 1.
        reduction: ``"mean"`` over the examples of all ranks that have a true class, times P for each rank's share, so
            that the ranks' average is the mean; ``"sum"``; or ``"none"``, which runs the collectives again in the
            backward pass.
        ignore_index: A class that is left out.
        precision: As in :func:`fastnce.torch.nce_loss`.
        process_group: The ranks that share the table: a process group, or a device mesh of one axis; ``None`` for all.

    Returns:
        A scalar, or ``[b]`` for ``"none"``. Gradients of weight and bias are dense, and those of the ranks' average.

    Raises:
        ValueError: A table with other rows than this rank's; what :func:`fastnce.torch.softmax_loss` refuses.
        RuntimeError: On the other ranks, if one refused its arguments; on all, if the ranks differ in options; if one
            stopped.
    """
    lists = Arguments(input, target, example_weight, label_weights, exclude)
    options = {"family": "softmax", "true_target": true_target, "precision": precision}
    return _loss(lists, weight, bias, num_classes, reduction, ignore_index, options, process_group)


def sigmoid_loss(
    input: Tensor,
    target: Classes,
    weight: Tensor,
    bias: Tensor | None,
    num_classes: int,
    example_weight: Tensor | None = None,
    *,
    label_weights: Tensor | None = None,
    exclude: Classes | None = None,
    true_target: TrueTarget = "one",
    reduction: Reduction = "mean",
    ignore_index: int | None = -100,
    precision: Precision | None = None,
    process_group: dist.ProcessGroup | DeviceMesh | None = None,
) -> Tensor:
    """Binary cross entropy, summed over all classes of a table that is spread over the ranks:
    :func:`fastnce.torch.sigmoid_loss`. Arguments, results and errors are those of :func:`softmax_loss`."""
    lists = Arguments(input, target, example_weight, label_weights, exclude)
    options = {"family": "logistic", "true_target": true_target, "precision": precision}
    return _loss(lists, weight, bias, num_classes, reduction, ignore_index, options, process_group)


def _loss(
    arguments: Arguments,
    weight: Tensor,
    bias: Tensor | None,
    num_classes: int,
    reduction: Reduction,
    ignore_index: int | None,
    options: dict[str, Any],
    process_group: Any,
) -> Tensor:
    table = Table(Exchange(process_group), weight, bias, num_classes, reduction, ignore_index)

    def make() -> Batch:
        batch = table.checked_as_given(arguments, options)
        require_labels(arguments.target, arguments.input)
        return batch

    batch, refusal = attempt(make)
    call = ("loss over all classes", table.num_classes, reduction, sorted(options.items()))
    wanted = table.wanted(arguments.input)
    header = table.header(batch, refusal, call, gradients=wanted, weight=arguments.weight)
    run = partial(step, "data_to_rows", table.shard(options))
    return table.loss(arguments.input, batch, header, arguments.weight, run, sparse=False, all_classes=True)


@torch.no_grad()
def top_k(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    num_classes: int,
    k: int,
    exclude: Classes | None = None,
    *,
    precision: Precision | None = "highest",
    process_group: dist.ProcessGroup | DeviceMesh | None = None,
) -> tuple[Tensor, Tensor]:
    """The k classes of a table that is spread over the ranks that score highest for this rank's ``input [b, D]``:
    :func:`fastnce.torch.top_k`. Inputs travel to the rows, and k scores and classes of each rank back.

    All ranks call it together, with the same k. ``weight``, ``bias``, ``num_classes`` and ``process_group`` are those
    of :func:`softmax_loss`.
    """
    table, options = Table(Exchange(process_group), weight, bias, num_classes), {"precision": precision}

    def make() -> Batch:
        require_tensors(input=input)
        none = input.new_empty((*input.shape[:-1], 0), dtype=torch.int64)
        batch = table.checked_as_given(Arguments(input, none, exclude=exclude), options)
        if int64(k, "k") < 0:
            raise ValueError(f"k = {k}: expected at least 0")
        return batch

    batch, refusal = attempt(make)
    call = ("top_k", table.num_classes, precision)
    header = table.header(batch, refusal, call, {"k": 0 if refusal is not None else int64(k, "k")})
    scores, classes = _evaluate.top_k(table.shard(options), batch, header, k)
    return scores.reshape(*input.shape[:-1], k), classes.reshape(*input.shape[:-1], k)


@torch.no_grad()
def rank_of_labels(
    input: Tensor,
    target: Classes,
    weight: Tensor,
    bias: Tensor | None,
    num_classes: int,
    exclude: Classes | None = None,
    *,
    ignore_index: int | None = -100,
    precision: Precision | None = "highest",
    process_group: dist.ProcessGroup | DeviceMesh | None = None,
) -> Tensor:
    """The rank of each label of this rank's examples among all classes of a table that is spread over the ranks,
    float64 in the shape of ``target`` (``[n]`` of lists): :func:`fastnce.torch.rank_of_labels`.

    All ranks call it together. Inputs and scores of labels travel to the rows, and numbers of competitors back.
    ``weight``, ``bias``, ``num_classes`` and ``process_group`` are those of :func:`softmax_loss`.
    """
    table = Table(Exchange(process_group), weight, bias, num_classes, ignore_index=ignore_index)
    options = {"precision": precision}
    arguments = Arguments(input, target, exclude=exclude)
    batch, refusal = attempt(lambda: table.checked_as_given(arguments, options))
    header = table.header(batch, refusal, ("rank_of_labels", table.num_classes, precision))
    ranks = _evaluate.rank_of_labels(table.shard(options), batch, header)
    labels, _ = split_lists("target", target)
    kept = torch.ones_like(labels, dtype=torch.bool) if ignore_index is None else labels != ignore_index
    return ranks.new_full(labels.shape, torch.nan).masked_scatter_(kept, ranks)
