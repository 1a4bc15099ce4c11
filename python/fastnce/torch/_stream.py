"""The position of a module in its stream of samples, also where a forward pass runs twice.

Activation checkpointing runs a forward pass a second time, during the backward pass, and so that dropout repeats itself
it restores the state of PyTorch's random numbers first. So a call that may be repeated draws one of those as its mark;
within a backward pass, the call of the same module with the same mark, and the same targets as far as they can be
looked at, is the one to repeat. A call that saves its tensors for its own backward pass is never repeated, and draws
no mark, which would take longer than the rest of the bookkeeping.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

import torch
from torch import Tensor

_REMEMBERED = 4096

# Of the innermost saved_tensors_hooks; not in every version of PyTorch.
_hooks = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)

_lock = threading.RLock()  # a signal handler may call a loss while its thread holds the lock
# Each with the seed whose address is in its mark, so that no other module's seed gets that address.
_numbers: OrderedDict[tuple[int, int, int], tuple[Tensor | int, Tensor]] = OrderedDict()


def next_call(calls: Tensor, target: Tensor, seed: Tensor, recorded: bool) -> Tensor | int:
    """The number of this call of a stream; ``calls``, how many there were, is counted up in place.

    A scalar tensor on a CUDA device, which is not waited for. ``seed`` is the module's own tensor: its address tells
    the module's calls from others'. ``recorded``: gradients are enabled where the loss is called, which the operator
    does not see, because compiled graphs run with gradients disabled.
    """
    if not may_be_repeated(recorded):
        with _lock:
            return _count(calls)
    # Somebody may set the random state back between two calls, or another thread restore it.
    content = hash(target.resolve_neg().numpy().tobytes()) if target.device.type == "cpu" else 0
    mark = seed.data_ptr(), int(torch.randint(2**63 - 1, (), device="cpu")), content
    with _lock:
        if not repeats():
            _numbers.pop(mark, None)
            number = _count(calls)
            _numbers[mark] = number, seed  # as the newest
            if len(_numbers) > _REMEMBERED:
                _numbers.popitem(last=False)
            return number
        remembered = _numbers.get(mark)
    if remembered is None:
        raise RuntimeError(
            "the loss runs again within a backward pass, but PyTorch's random state is not that of its first run: "
            "expected checkpointing outside of torch.compile, with preserve_rng_state=True, in one thread, and at most "
            f"{_REMEMBERED:,} calls of such losses in between"
        )
    return remembered[0]


def _count(calls: Tensor) -> Tensor | int:
    if calls.is_cpu:
        count = calls.numpy()  # add_ would cost as much as the rest of the bookkeeping
        number = int(count)
        count[...] = number + 1  # last, so that an interrupt before it leaves no count
        return number
    position = calls.clone()
    calls.add_(1)
    return position


def give_back(calls: Tensor, number: Tensor | int) -> None:
    """Undoes the count of a call that failed, unless a later one of another thread has been counted since."""
    if not repeats():
        with _lock:
            calls.sub_((calls == number + 1).to(calls.dtype))  # without reading it, which a CUDA device would wait for


def may_be_repeated(recorded: bool) -> bool:
    """Whether this call may repeat another, or be repeated: only where tensors are not saved as they are."""
    return not recorded or repeats() or _hooks is None or _hooks(False) is not None


def repeats() -> bool:
    """Whether this is within a backward pass; what checkpointing itself asks."""
    return bool(torch._C._current_graph_task_id() != -1)
