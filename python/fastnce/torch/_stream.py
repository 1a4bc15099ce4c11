"""The position of a module in its stream of samples, also where a forward pass runs twice.

Activation checkpointing runs a forward pass a second time, during the backward pass, and so that dropout repeats itself
it restores the state of PyTorch's random numbers first. So every call draws one of those as its mark; within a backward
pass, the call with the same mark is the one to repeat.
"""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor

_REMEMBERED = 4096

_lock = threading.Lock()
_numbers: OrderedDict[tuple[int, int], Tensor] = OrderedDict()
_keys = itertools.count()


class Stream:
    """Tells the streams of modules apart, of copies, too."""

    def __init__(self) -> None:
        self.key = next(_keys)

    def __deepcopy__(self, memo: Any) -> Stream:
        return Stream()

    def __reduce__(self) -> Any:
        return Stream, ()


def next_call(calls: Tensor, key: int) -> Tensor:
    """The number of this call of a stream, a scalar; ``calls``, how many there were, is counted up in place."""
    mark = key, int(torch.randint(2**63 - 1, ()))
    repeats = torch._C._current_graph_task_id() != -1  # within a backward pass; what checkpointing itself asks
    with _lock:
        if not repeats:
            _numbers[mark] = calls.clone()
            calls.add_(1)
            if len(_numbers) > _REMEMBERED:
                _numbers.popitem(last=False)
        number = _numbers.get(mark)
    if number is None:
        raise RuntimeError(
            "the loss runs again within a backward pass, but PyTorch's random state is not that of its first run: "
            "expected checkpointing outside of torch.compile, with preserve_rng_state=True"
        )
    return number
