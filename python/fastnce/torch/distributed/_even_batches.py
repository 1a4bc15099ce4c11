"""Ranks whose data ends sooner: they go on with batches of no examples, since every step needs all ranks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.utils import _pytree

from fastnce._types import Ragged

T = TypeVar("T")


def even_batches(batches: Iterable[T], process_group: dist.ProcessGroup | None = None) -> Iterator[T]:
    """The batches of this rank and then, until the data of all ranks has ended, its last batch without examples.

    >>> for features, target in even_batches(loader):
    ...     loss = criterion(model(features), target)      # 0 for a batch without examples
    ...     loss.backward()
    ...     optimizer.step()                               # rows have gradients of the others' examples

    Args:
        batches: What a ``DataLoader`` gives, for instance: tensors in lists, tuples, dicts, whose first axis is that of
            the examples; lists of classes of either kind. What has no axis stays as it is.
        process_group: The ranks that take part; ``None`` for all.

    Raises:
        ValueError: On every rank, if one has no batch at all.
    """
    last: Any = None
    own = iter(batches)
    while True:
        try:
            batch, ended = next(own), False
            last = batch
        except StopIteration:
            batch, ended = last, True
        states: list[Any] = [None] * dist.get_world_size(process_group)
        dist.all_gather_object(states, (ended, last is None), group=process_group)
        if all(done for done, _ in states):
            return
        for rank, (_, without) in enumerate(states):
            if without:
                raise ValueError(f"rank {rank} has no batch: expected at least one on every rank")
        yield _without_examples(batch) if ended else batch


def _without_examples(batch: Any) -> Any:
    def empty(value: Any) -> Any:
        if isinstance(value, Ragged):
            return Ragged(value.values[:0], value.offsets[:1])
        if not isinstance(value, torch.Tensor) or value.dim() == 0:
            return value
        if value.is_nested:
            return torch.nested.nested_tensor_from_jagged(value.values()[:0], value.offsets()[:1])
        return value[:0]

    return _pytree.tree_map(empty, batch, is_leaf=lambda value: isinstance(value, Ragged))
