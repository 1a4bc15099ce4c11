"""Rows of the table on their way to other ranks, and their gradients on the way back."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from fastnce.torch.distributed._batch import Lists
from fastnce.torch.distributed._exchange import Pending, padded, without_padding
from fastnce.torch.distributed._layout import owner_of, row_of
from fastnce.torch.distributed._shard import Shard


class Rows(NamedTuple):
    """Rows that have arrived."""

    weights: Tensor
    """``[n, D]``."""
    biases: Tensor | None
    """``[n]``."""
    expected_count: Tensor | None = None
    """``[n]``, where the owner of the row sent it."""


class Gradients(NamedTuple):
    """Gradients of rows, on their way to where the rows are."""

    weights: Pending | None
    biases: Pending | None


class TrueRows:
    """The rows of this rank's true classes, each once: from each owner to here."""

    def __init__(self, shard: Shard, labels: Lists) -> None:
        """Asks the owners for them. Blocks until it knows what the others ask of this rank."""
        exchange = shard.exchange
        self._exchange = exchange
        classes, places = labels.distinct
        owners = owner_of(classes, exchange.size)
        order = torch.argsort(owners, stable=True)
        self.classes = classes[order]
        row_of_class = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
        self.row_of_label = row_of_class[places]
        """int64 ``[labels]``: the row, of those that arrive, that each label has."""
        wanted = torch.bincount(owners, minlength=exchange.size)
        self._wanted: list[int] = wanted.tolist()
        self._asked: list[int] = exchange.gather("numbers of true classes", wanted).wait()[:, exchange.rank].tolist()
        self.asked = exchange.all_to_all("true classes", self.classes, self._wanted, self._asked).wait()
        """int64: the classes that others, and this rank, asked for."""
        self.asked_rows = row_of(self.asked, exchange.size)
        """Their rows in this shard."""

    def start(self, shard: Shard, expected_count: Tensor | None) -> None:
        """Sends what this rank is asked for. ``expected_count``: of the asked rows, where the owner knows it."""
        self._under_way = [
            self._send("weights", shard.weights[self.asked_rows]),
            self._send("biases", None if shard.biases is None else shard.biases[self.asked_rows]),
            self._send("expected counts", expected_count),
        ]

    def _send(self, name: str, rows: Tensor | None) -> Pending | None:
        if rows is None:
            return None
        return self._exchange.all_to_all(f"{name} of true classes", rows, self._asked, self._wanted)

    def wait(self) -> Rows:
        """The rows, in the order of ``classes``; one of zeros where there is none, as a table needs one."""
        rows = Rows(*(None if pending is None else pending.wait() for pending in self._under_way))
        if self.classes.shape[0] > 0:
            return rows
        return Rows(*(None if values is None else values.new_zeros((1, *values.shape[1:])) for values in rows))

    def send_back(self, weights: Tensor | None, biases: Tensor | None) -> Gradients:
        """Gradients to the owners, who get those of ``asked_rows``."""
        return Gradients(
            *(
                None if rows is None else self._exchange.all_to_all(name, rows, self._wanted, self._asked)
                for name, rows in (
                    ("gradients of weights of true classes", weights),
                    ("gradients of biases of true classes", biases),
                )
            )
        )


class SampledRows:
    """The sampled rows, from all ranks to all: as many of each rank, where it holds fewer with padding behind them."""

    def __init__(self, shard: Shard, own_classes: Tensor, counts: list[int]) -> None:
        """Starts to gather them. ``counts``: how many each rank holds, ``own_classes`` this one."""
        self._exchange, self._counts, self._most = shard.exchange, counts, max(counts)
        self.own_rows = row_of(own_classes, shard.exchange.size)
        self.places = without_padding(
            torch.arange(len(counts) * self._most, device=own_classes.device).view(-1, self._most), counts
        )
        """int64 ``[S]``: where each sample is among the rows that arrive."""
        sent = padded(self.own_rows, self._most)
        self._under_way = [
            self._gather("weights", shard.weights[sent]),
            None if shard.biases is None else self._gather("biases", shard.biases[sent]),
        ]

    def _gather(self, name: str, own: Tensor) -> Pending:
        return self._exchange.gather(f"{name} of sampled classes", own)

    def gathered(self, name: str, own: Tensor) -> Tensor:
        """``[S, ...]`` of what each rank has for its own samples."""
        return without_padding(self._gather(name, padded(own, self._most)).wait(), self._counts)

    def at_places(self, values: Tensor) -> Tensor:
        """``[P * most, ...]``: what each sample has, ``[S, ...]``, and 0 for padding."""
        if values.shape[0] == len(self._counts) * self._most:
            return values
        return values.new_zeros((len(self._counts) * self._most, *values.shape[1:])).index_copy_(0, self.places, values)

    def wait(self) -> Rows:
        """The rows of all samples, at ``places``."""
        rows = Rows(*(None if pending is None else pending.wait().flatten(0, 1) for pending in self._under_way))
        self._under_way = []  # the rows are the caller's, who frees them when they are scored
        return rows

    def send_back(self, weights: Tensor | None, biases: Tensor | None) -> Gradients:
        """Gradients of all samples to the ranks that hold their rows, summed over the ranks."""
        return Gradients(
            *(
                None if rows is None else self._scatter(name, rows)
                for name, rows in (
                    ("gradients of weights of sampled classes", weights),
                    ("gradients of biases of sampled classes", biases),
                )
            )
        )

    def _scatter(self, name: str, rows: Tensor) -> Pending:
        parts = self.at_places(rows).unflatten(0, (-1, self._most))
        pending = self._exchange.reduce_scatter(name, parts)
        return pending.then(lambda own: own[: self.own_rows.shape[0]])


def coalesced(*parts: tuple[Tensor, Gradients]) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Distinct rows, ascending, with the sums of their gradients, once these have arrived."""
    counts = [rows.shape[0] for rows, _ in parts]
    distinct, places = torch.unique(torch.cat([rows for rows, _ in parts]), return_inverse=True)

    def summed(under_way: list[Pending | None]) -> Tensor | None:
        total = None
        for place, pending in zip(places.split(counts), under_way, strict=True):
            if pending is not None:
                values = pending.wait()
                total = values.new_zeros((distinct.shape[0], *values.shape[1:])) if total is None else total
                total.index_add_(0, place, values)
        return total

    return distinct, summed([part.weights for _, part in parts]), summed([part.biases for _, part in parts])
