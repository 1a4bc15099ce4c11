"""The best classes of a sharded table: every rank scores all inputs against its own rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastnce._seed import int64
from fastnce._types import Ragged
from fastnce.torch._all_classes import top_k as of_table
from fastnce.torch.distributed._batch import Batch, Header
from fastnce.torch.distributed._data_to_rows import of_all_ranks
from fastnce.torch.distributed._layout import row_of
from fastnce.torch.distributed._shard import Shard


def top_k(shard: Shard, batch: Batch, header: Header, k: int) -> tuple[Tensor, Tensor]:
    """Scores and classes ``[b, k]`` of this rank's inputs. k of each shard travel, and the best k of those are left."""
    exchange = shard.exchange
    everything, rows = of_all_ranks(exchange, batch, header), max(header.examples)
    exclude = None
    if everything.exclude is not None:
        own = everything.exclude.select(shard.owns(everything.exclude.values))
        exclude = Ragged(row_of(own.values, exchange.size), own.offsets)
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
    """The k best, of equal scores the smaller class first, as one table gives them."""
    classes, by_class = classes.sort(1)
    scores, by_score = scores.gather(1, by_class).sort(dim=1, descending=True, stable=True)
    return scores[:, :k], classes.gather(1, by_score)[:, :k]


def require_k(k: Any) -> None:
    """Raises TypeError or ValueError for what is no k."""
    if int64(k, "k") < 0:
        raise ValueError(f"k = {k}: expected at least 0")
