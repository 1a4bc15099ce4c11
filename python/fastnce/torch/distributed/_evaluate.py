"""The best classes of a sharded table, and ranks of labels: every rank scores all inputs against its own rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastnce import _core
from fastnce._types import Ragged
from fastnce.torch._all_classes import top_k as of_table
from fastnce.torch._kernels import as_array, over_all_classes
from fastnce.torch.distributed._batch import Batch, Header, Lists
from fastnce.torch.distributed._data_to_rows import of_all_ranks
from fastnce.torch.distributed._exchange import padded_parts
from fastnce.torch.distributed._layout import row_of
from fastnce.torch.distributed._shard import Shard


def top_k(shard: Shard, batch: Batch, header: Header, k: int) -> tuple[Tensor, Tensor]:
    """Scores and classes ``[b, k]`` of this rank's inputs. k of each shard travel, and the best k of those are left."""
    exchange = shard.exchange
    everything, rows = of_all_ranks(exchange, batch, header), max(header.examples)
    exclude = None
    if everything.exclude is not None:
        own = _rows_of(shard, everything.exclude)
        exclude = Ragged(own.values, own.offsets)
    precision = shard.options["precision"]
    scores, local = of_table(everything.inputs, shard.weights, shard.biases, k, exclude, precision=precision)
    classes = torch.where(local < 0, local, local * exchange.size + exchange.rank)
    counts = [rows] * exchange.size
    of_scores = exchange.all_to_all("scores", scores, counts, counts)
    of_classes = exchange.all_to_all("classes", classes, counts, counts)
    b = batch.inputs.shape[0]
    beside_scores, beside_classes = (
        pending.wait().view(exchange.size, rows, k).transpose(0, 1)[:b].reshape(b, exchange.size * k)
        for pending in (of_scores, of_classes)
    )
    return _best(beside_scores, beside_classes, k)


def _best(scores: Tensor, classes: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best, of equal scores the smaller class first, as one table gives them; what is no class, last."""
    none = torch.iinfo(classes.dtype).max
    classes, by_class = classes.masked_fill(classes < 0, none).sort(1)
    scores, by_score = scores.gather(1, by_class).sort(dim=1, descending=True, stable=True)
    classes = classes.gather(1, by_score[:, :k])
    return scores[:, :k].contiguous(), classes.masked_fill_(classes == none, -1)


def rank_of_labels(shard: Shard, batch: Batch, header: Header) -> Tensor:
    """The ranks of this rank's labels, float64. Scores of labels travel from where their rows are to all ranks, and
    numbers of competitors back."""
    exchange = shard.exchange
    everything = of_all_ranks(exchange, batch, header)
    labels, own = everything.labels, shard.owns(everything.labels.values)
    owned, exclude = _rows_of(shard, labels), None
    if everything.exclude is not None:
        exclude = _rows_of(shard, everything.exclude)
    fields = {**shard.fields, "inputs": everything.inputs}
    of_labels = {"labels": owned.values, "label_offsets": owned.offsets}
    (own_scores,) = over_all_classes(_core.score_labels, _arrays(fields | of_labels))
    scores = own_scores.new_zeros(labels.values.shape).masked_scatter_(own, own_scores)
    scores = exchange.all_reduce("scores of labels", scores).wait()  # of zeros, and of one rank's score of each
    if exclude is not None:
        fields |= {"exclude": exclude.values, "exclude_offsets": exclude.offsets}
    (ranks,) = over_all_classes(_core.rank_of_scores, _arrays(fields), as_array(scores), as_array(labels.offsets))
    ranks -= 1
    ranks[own] -= 0.5  # a label ties with itself,
    if exclude is not None:
        ranks[own] += 0.5 * _are_listed(owned, exclude).double()  # unless it does not compete
    parts = padded_parts(ranks, header.labels)
    return 1 + exchange.reduce_scatter("ranks of labels", parts).wait()[: batch.labels.values.shape[0]]


def _arrays(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: as_array(field) if isinstance(field, Tensor) else field for name, field in fields.items()}


def _rows_of(shard: Shard, classes: Lists) -> Lists:
    """Those of the classes that are rows of this shard, as such."""
    own = classes.select(shard.owns(classes.values))
    return Lists(row_of(own.values, shard.exchange.size), own.counts)


def _are_listed(classes: Lists, exclude: Lists) -> Tensor:
    """Which of the classes are in the list of their example."""
    rows = 1 + max(int(lists.values.max()) if lists.values.numel() else 0 for lists in (classes, exclude))
    first, second = (lists.examples * rows + lists.values for lists in (classes, exclude))
    return torch.isin(first, second)
