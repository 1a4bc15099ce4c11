"""The sampled losses over sharded tables as functions, against samples that the caller gives."""

from __future__ import annotations

import zlib
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from fastnce._types import Precision
from fastnce.torch._arguments import (
    Reduction,
    TrueTarget,
    require_flag,
    require_number,
    require_option,
    require_sampled_values,
    require_tensors,
)
from fastnce.torch._functional import Samples
from fastnce.torch._lists import Classes
from fastnce.torch._shapes import loss_dtype
from fastnce.torch.distributed._batch import Batch
from fastnce.torch.distributed._call import Arguments, Table, attempt, require_labels
from fastnce.torch.distributed._exchange import Exchange
from fastnce.torch.distributed._sampling import Given
from fastnce.torch.distributed._schemes import SCHEMES, Scheme, step


def nce_loss(
    input: Tensor,
    target: Classes,
    weight: Tensor,
    bias: Tensor | None,
    num_classes: int,
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
    scheme: Scheme = "auto",
    process_group: dist.ProcessGroup | DeviceMesh | None = None,
) -> Tensor:
    """NCE over a table that is spread over the ranks: :func:`fastnce.torch.nce_loss`, and what
    :class:`ShardedNCELoss` computes.

    >>> samples = fastnce.torch.log_uniform_candidates(target, num_sampled, num_classes, seed=1, calls=step)
    >>> loss = nce_loss(input, target, weight, bias, num_classes, samples)

    All ranks call it together, each with its own examples, and with the same samples of the whole table.

    Args:
        input: ``[b, D]``, or with more axes of examples: this rank's.
        target: Their true classes, of the whole table, as :func:`fastnce.torch.nce_loss` takes them.
        weight: ``[rows, D]``: the rows of this rank, those of the classes r, r + P, r + 2 P, ... on rank r of P.
        bias: ``[rows]``, or ``None``.
        num_classes: Number of classes of the whole table, V.
        sampled_values: ``(sampled_candidates [S], true_expected_count [b, T], sampled_expected_count [S])``: classes
            of the whole table and their counts, the same on all ranks, and the counts of this rank's ``target``. Both
            counts may be ``None``: no log Q.
        reduction: ``"mean"`` over the examples of all ranks that have a true class, times P for each rank's share, so
            that the ranks' average is the mean; ``"sum"``; or ``"none"``, which runs the collectives again in the
            backward pass.
        scheme: ``"auto"``, ``"rows_to_data"`` or ``"data_to_rows"``; see :class:`ShardedNCELoss`.
        process_group: The ranks that share the table: a process group, or a device mesh of one axis; ``None`` for all.

    The other arguments are those of :func:`fastnce.torch.nce_loss`.

    Returns:
        A scalar, or ``[b]`` for ``"none"``. Gradients of weight and bias are those of the ranks' average.

    Raises:
        ValueError: A table with other rows than this rank's; what :func:`fastnce.torch.nce_loss` refuses.
        RuntimeError: On the other ranks, if one refused its arguments; on all, if the ranks differ in samples or
            options; if one stopped.
    """
    arguments = Arguments(input, target, example_weight, label_weights, exclude, sampled_values)
    options = {"family": "logistic", "true_target": true_target, "remove_accidental_hits": remove_accidental_hits}
    table = Table(Exchange(process_group), weight, bias, num_classes, reduction, ignore_index)
    return _loss(table, arguments, {**options, "precision": precision}, scheme, sparse)


def sampled_softmax_loss(
    input: Tensor,
    target: Classes,
    weight: Tensor,
    bias: Tensor | None,
    num_classes: int,
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
    scheme: Scheme = "auto",
    process_group: dist.ProcessGroup | DeviceMesh | None = None,
) -> Tensor:
    """Sampled softmax over a table that is spread over the ranks: :func:`fastnce.torch.sampled_softmax_loss`, with the
    arguments, results and errors of :func:`nce_loss`."""
    arguments = Arguments(input, target, example_weight, label_weights, exclude, sampled_values)
    options = {"family": "softmax", "true_target": true_target, "remove_accidental_hits": remove_accidental_hits}
    table = Table(Exchange(process_group), weight, bias, num_classes, reduction, ignore_index)
    return _loss(table, arguments, {**options, "precision": precision}, scheme, sparse)


def negative_sampling_loss(
    input: Tensor,
    target: Classes,
    weight: Tensor,
    bias: Tensor | None,
    num_classes: int,
    sampled_candidates: Tensor,
    example_weight: Tensor | None = None,
    *,
    label_weights: Tensor | None = None,
    exclude: Classes | None = None,
    positive_weight: float = 1.0,
    negative_weight: float = 1.0,
    remove_accidental_hits: bool = False,
    reduction: Reduction = "mean",
    ignore_index: int | None = -100,
    sparse: bool = True,
    precision: Precision | None = None,
    scheme: Scheme = "auto",
    process_group: dist.ProcessGroup | DeviceMesh | None = None,
) -> Tensor:
    """Negative sampling over a table that is spread over the ranks: :func:`fastnce.torch.negative_sampling_loss`, whose
    weights are numbers here. Arguments, results and errors are those of :func:`nce_loss`."""
    samples = (sampled_candidates, None, None)
    arguments = Arguments(input, target, example_weight, label_weights, exclude, samples)
    options = {"true_target": "one", "remove_accidental_hits": remove_accidental_hits}
    weights = {"positive_weight": positive_weight, "negative_weight": negative_weight}
    table = Table(Exchange(process_group), weight, bias, num_classes, reduction, ignore_index)
    return _loss(table, arguments, {"family": "logistic", **options, **weights, "precision": precision}, scheme, sparse)


def _loss(table: Table, arguments: Arguments, options: dict[str, Any], scheme: Scheme, sparse: bool) -> Tensor:
    def make() -> Batch:
        require_option("scheme", scheme, SCHEMES)
        require_flag("sparse", sparse)
        require_flag("remove_accidental_hits", options["remove_accidental_hits"])
        require_tensors(input=arguments.input, weight=table.weight)
        for name in ("positive_weight", "negative_weight"):
            if name in options:
                options[name] = require_number(name, options[name], table.weight)
        require_sampled_values(arguments.sampled_values, arguments.input.device)
        classes = arguments.sampled_values[0]
        if classes.dim() != 1:
            raise ValueError(
                f"sampled_candidates has shape {list(classes.shape)}: expected [S], classes that all examples share"
            )
        batch = table.checked_as_given(arguments, options)
        require_labels(arguments.target, arguments.input)
        return batch

    batch, refusal = attempt(make)
    classes, counts, numbers = torch.empty(0), None, 0
    if refusal is None:
        classes, _, counts = arguments.sampled_values
        for values in (classes, counts):
            numbers = zlib.crc32(b"" if values is None else values.double().cpu().numpy().tobytes(), numbers)
        counts = None if counts is None else counts.to(loss_dtype(arguments.input)).expand(classes.shape)
    call = ("sampled", table.num_classes, table.reduction, scheme, sorted(options.items()), counts is not None)
    header = table.header(
        *(batch, refusal, call, {"hash of the samples": numbers}, table.wanted(arguments.input), arguments.weight),
        rows_may_travel=scheme != "data_to_rows",
    )
    shard = table.shard(options, Given(classes.long(), counts))
    run = partial(step, scheme, shard)
    return table.loss(arguments.input, batch, header, arguments.weight, run, sparse=sparse, samples=(classes, counts))
