"""Inputs travel to the rows: every rank scores the examples of all ranks against its own classes.

A rank receives (P - 1) b rows of inputs and as many of their gradients, as shares that are summed where they belong; no
row of the table moves, and gradients of rows stay where the rows are. The loss is a sum over the ranks' classes; a
softmax first exchanges the sum of exponentials that each rank has, one number for each example.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fastnce.torch._kernels import Gradients
from fastnce.torch._shapes import loss_dtype
from fastnce.torch.distributed._batch import Batch, Header, Lists
from fastnce.torch.distributed._exchange import Exchange, padded, without_padding
from fastnce.torch.distributed._layout import row_of
from fastnce.torch.distributed._parts import Part, part_of_loss, softmax_losses
from fastnce.torch.distributed._shard import Result, Shard


def data_to_rows(shard: Shard, batch: Batch, header: Header, scale: float, gradients: Gradients) -> Result:
    """Losses of this rank's examples, and gradients of ``scale`` times the sum over all ranks' examples of factor times
    loss: of this rank's inputs, and of its rows."""
    exchange = shard.exchange
    own_examples, rows = batch.inputs.shape[0], max(header.examples)
    inputs = exchange.gather("inputs", padded(batch.inputs, rows))  # travel while labels do, and samples are drawn
    request = _request_of(shard, _lists_of_all_ranks(exchange, batch, header), scale)
    part = _part_of(shard, {**request, "inputs": inputs.wait().flatten(0, 1)}, gradients)
    del inputs  # the step takes the most memory while their gradients leave
    losses = exchange.reduce_scatter("losses", part.loss.view(exchange.size, rows))
    grad_inputs = None
    if part.grad_inputs is not None:
        shares = part.grad_inputs.view(exchange.size, rows, batch.inputs.shape[1])
        grad_inputs = exchange.reduce_scatter("gradients of inputs", shares).wait()[:own_examples]
    return Result(losses.wait()[:own_examples], grad_inputs, part.row_ids, part.grad_weights, part.grad_biases)


def of_all_ranks(exchange: Exchange, batch: Batch, header: Header) -> Batch:
    """The examples of all ranks, as many of each: those beyond a rank's own have no class."""
    inputs = exchange.gather("inputs", padded(batch.inputs, max(header.examples)))
    lists = _lists_of_all_ranks(exchange, batch, header)
    return replace(lists, inputs=inputs.wait().flatten(0, 1))


def _lists_of_all_ranks(exchange: Exchange, batch: Batch, header: Header) -> Batch:
    """The same without the inputs."""
    rows, most_labels, most_excluded = max(header.examples), max(header.labels), max(header.excluded)
    none = batch.labels.values[:0]
    exclude = batch.exclude or Lists(none, none)
    own = [padded(batch.labels.counts, rows), padded(batch.labels.values, most_labels)]
    if header.exclude:
        own += [padded(exclude.counts, rows), padded(exclude.values, most_excluded)]
    counts, values, *excluded = exchange.gather("labels", torch.cat(own)).wait().split([len(part) for part in own], 1)
    labels = Lists(without_padding(values, header.labels), counts.flatten())
    weights = true_count = factors = None

    def gathered(name: str, given: Tensor | None, most: int) -> Tensor:
        # A rank that has run out of data has none.
        own = batch.inputs.new_empty(0) if given is None else given
        return exchange.gather(name, padded(own.to(loss_dtype(batch.inputs)), most)).wait()

    if header.label_weights:
        weights = without_padding(gathered("label_weights", batch.label_weights, most_labels), header.labels)
    if batch.true_count is not None:
        name = "expected counts of true classes"
        true_count = without_padding(gathered(name, batch.true_count, most_labels), header.labels)
    if header.factors:
        factors = gathered("weight", batch.factors, rows).flatten()
    of_all = Lists(without_padding(excluded[1], header.excluded), excluded[0].flatten()) if excluded else None
    return Batch(batch.inputs[:0], labels, weights, true_count, of_all, factors)


def _request_of(shard: Shard, batch: Batch, scale: float) -> dict[str, Any]:
    """The fields of the part of the loss that is of this shard's rows, without the inputs."""
    size = shard.exchange.size
    own = shard.owns(batch.labels.values)
    labels = batch.labels.select(own)
    fields: dict[str, Any] = {
        **shard.fields,
        "labels": row_of(labels.values, size),
        "label_offsets": labels.offsets,
        "label_weights": None if batch.label_weights is None else batch.label_weights[own],
        "label_counts": batch.labels.counts,
        "grad_loss": scale if batch.factors is None else batch.factors * scale,
    }
    if shard.sampling is not None:
        true_count = None if batch.true_count is None else batch.true_count[own]
        samples = shard.sampling.of_rank(shard.exchange, labels.values, true_count)
        fields["sampled"] = row_of(samples.classes, size), samples.true_count, samples.sampled_count
    if batch.exclude is not None:
        exclude = batch.exclude.select(shard.owns(batch.exclude.values))
        fields["exclude"], fields["exclude_offsets"] = row_of(exclude.values, size), exclude.offsets
    if shard.options["family"] == "softmax":
        fields["label_weight_sums"] = batch.label_weight_sums
    return fields


def _part_of(shard: Shard, fields: dict[str, Any], gradients: Gradients) -> Part:
    """That part. Gradients of a softmax take a second pass, since all ranks have a share in the normaliser."""
    if shard.options["family"] != "softmax":
        return part_of_loss(gradients, **fields)
    part = part_of_loss(log_sum_exp=True, **fields)
    assert part.log_sum_exp is not None
    others = _of_others(shard.exchange, part.log_sum_exp)
    if any(gradients):
        return part_of_loss(gradients, **fields, other_log_sum_exp=others)
    labels = Lists(fields["labels"], fields["label_offsets"].diff())
    targets = labels.targets(fields["label_weights"], fields["label_counts"], fields["true_target"])
    return part._replace(loss=softmax_losses(part, others, targets))


def _of_others(exchange: Exchange, own: Tensor) -> Tensor:
    """log of the sum of exp over the other ranks, float64 ``[n]``."""
    sums = exchange.gather("log_sum_exp", own).wait().clone()
    sums[exchange.rank] = -torch.inf
    return sums.logsumexp(0)
