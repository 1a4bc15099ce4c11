"""Between rows as the ranks hold them, class k P + r on rank r, and natural order, as checkpoints have it.

In natural order rank r has the classes [r C, (r + 1) C), C = ceil(V / P), as DTensor's ``Shard(0)``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from fastnce.torch.distributed._exchange import Exchange
from fastnce.torch.distributed._layout import rows_of_rank

BLOCK_BYTES = 64 << 20
"""The most that a rank receives at once."""


def chunk_of_rank(num_classes: int, rank: int, size: int) -> range:
    """The classes that a rank has in natural order."""
    rows = -(-num_classes // size)
    return range(min(rank * rows, num_classes), min((rank + 1) * rows, num_classes))


def to_natural_order(exchange: Exchange, rows: Tensor, num_classes: int) -> Tensor:
    """This rank's chunk of the table of which ``rows`` are its part."""
    chunk = chunk_of_rank(num_classes, exchange.rank, exchange.size)
    natural = rows.new_empty((len(chunk), *rows.shape[1:]))
    for classes in _blocks(exchange, rows, num_classes):
        send = [_held(block, exchange.rank, exchange.size) for block in classes]
        own = classes[exchange.rank]
        receive = [_held(own, rank, exchange.size) for rank in range(exchange.size)]
        leaving = torch.cat([rows[part.start : part.stop] for part in send])
        arrived = exchange.all_to_all("rows in natural order", leaving, *_lengths(send, receive)).wait()
        for part, block in zip(arrived.split(list(map(len, receive))), range(exchange.size), strict=True):
            first = receive[block].start * exchange.size + block - chunk.start
            natural[first : first + len(part) * exchange.size : exchange.size] = part
    return natural


def from_natural_order(exchange: Exchange, natural: Tensor, num_classes: int) -> Tensor:
    """This rank's rows of the table of which ``natural`` is its chunk."""
    chunk = chunk_of_rank(num_classes, exchange.rank, exchange.size)
    rows = natural.new_empty((rows_of_rank(num_classes, exchange.rank, exchange.size), *natural.shape[1:]))
    for classes in _blocks(exchange, natural, num_classes):
        own = classes[exchange.rank]
        send = [_held(own, rank, exchange.size) for rank in range(exchange.size)]
        receive = [_held(block, exchange.rank, exchange.size) for block in classes]
        firsts = [part.start * exchange.size + rank - chunk.start for rank, part in enumerate(send)]
        leaving = torch.cat(
            [
                natural[first : first + len(part) * exchange.size : exchange.size]
                for first, part in zip(firsts, send, strict=True)
            ]
        )
        arrived = exchange.all_to_all("rows of their ranks", leaving, *_lengths(send, receive)).wait()
        for part, place in zip(arrived.split(list(map(len, receive))), receive, strict=True):
            rows[place.start : place.stop] = part
    return rows


def _blocks(exchange: Exchange, rows: Tensor, num_classes: int) -> Iterator[list[range]]:
    """The chunks of all ranks, some classes of each at a time."""
    most = BLOCK_BYTES // max(math.prod(rows.shape[1:]) * rows.element_size(), 1)
    chunks = [chunk_of_rank(num_classes, rank, exchange.size) for rank in range(exchange.size)]
    for begin in range(0, len(chunks[0]), max(most, 1)):
        yield [chunk[begin : begin + max(most, 1)] for chunk in chunks]


def _held(classes: range, rank: int, size: int) -> range:
    """The rows of a rank that are of these classes."""
    return range(-((rank - classes.start) // size), -((rank - classes.stop) // size))


def _lengths(*parts: list[range]) -> list[list[int]]:
    return [list(map(len, part)) for part in parts]
