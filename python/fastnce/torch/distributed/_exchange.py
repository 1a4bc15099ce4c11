"""The collectives of a step over one process group. An error names the collective, what it carried, and the rank."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

# PyTorch 2.13 renamed this.
_all_gather = dist.all_gather_single if hasattr(dist, "all_gather_single") else dist.all_gather_into_tensor

_MOST_NUMBERS = 24
"""That ranks tell each other at once."""


class Pending:
    """A collective under way: its result, once it is there."""

    def __init__(self, what: str, work: Any, result: Callable[[], Tensor]) -> None:
        self._what, self._work, self._result = what, work, result

    def wait(self) -> Tensor:
        """The result. Raises RuntimeError if the collective failed."""
        try:
            if self._work is not None:
                self._work.wait()
        except RuntimeError as error:
            raise RuntimeError(f"{self._what} failed: {error}") from error
        result = self._result()
        self._work, self._result = None, lambda: result  # which kept what was sent, and received in another form
        return result

    def then(self, change: Callable[[Tensor], Tensor]) -> Pending:
        """What ``change`` makes of the result, once it is there."""
        return Pending(self._what, self._work, lambda: change(self._result()))


class Exchange:
    """The process group of a sharded table. With one process nothing is sent."""

    def __init__(self, group: dist.ProcessGroup | DeviceMesh | None) -> None:
        self.group = group.get_group() if isinstance(group, DeviceMesh) else group
        group = self.group
        self.rank = dist.get_rank(group)
        if self.rank < 0:
            raise ValueError("process_group: this rank is not one of it: expected a group that all callers are in")
        self.size = dist.get_world_size(group)

    def __deepcopy__(self, memo: Any) -> Exchange:
        return self  # of a copy of the module, whose ranks are the same

    @property
    def process_group(self) -> dist.ProcessGroup:
        """That of all ranks in place of ``None``."""
        return dist.group.WORLD if self.group is None else self.group

    @property
    def device(self) -> torch.device:
        """Where the process group takes the numbers that ranks tell each other."""
        nccl = self.size > 1 and dist.get_backend(self.group) == "nccl"
        return torch.device("cuda", torch.cuda.current_device()) if nccl else torch.device("cpu")

    def numbers(self, name: str, own: list[int]) -> list[list[int]]:
        """Of each rank, what it has in place of ``own``: as many for all names, so that ranks in different calls meet.

        Raises:
            RuntimeError: On every rank, if one is in another call.
        """
        words = [zlib.crc32(name.encode()), *own]
        words += [0] * (_MOST_NUMBERS - len(words))
        everywhere = self.gather(name, torch.tensor(words, dtype=torch.int64, device=self.device)).wait().tolist()
        for rank, (call, *_) in enumerate(everywhere):
            if call != words[0]:
                raise RuntimeError(
                    f"rank {rank} does not exchange the {name} as rank {self.rank} does: expected the same call on all "
                    "ranks"
                )
        return [numbers[1 : 1 + len(own)] for numbers in everywhere]

    def gather(self, name: str, own: Tensor) -> Pending:
        """``[P, ...]`` of the tensors ``[...]`` of all ranks, which have one shape."""
        own = own.contiguous()
        if self.size == 1:
            return Pending("", None, lambda: own.unsqueeze(0))
        gathered = own.new_empty((self.size, *own.shape))
        return self._start(
            f"all_gather of {name}",
            lambda: _all_gather(gathered.view(-1), own.view(-1), group=self.group, async_op=True),
            lambda: gathered,
        )

    def all_reduce(self, name: str, own: Tensor) -> Pending:
        """``[...]``: the sum over the ranks."""
        if self.size == 1:
            return Pending("", None, lambda: own)
        total = own.clone(memory_format=torch.contiguous_format)
        return self._start(
            f"all_reduce of {name}",
            lambda: dist.all_reduce(total, group=self.group, async_op=True),
            lambda: total,
        )

    def reduce_scatter(self, name: str, parts: Tensor) -> Pending:
        """``[...]``: the sum over the ranks of what each has for this one, in ``[P, ...]``.

        Summed here: gloo's own reduce_scatter is an all_reduce, which moves twice as much.
        """
        if self.size == 1:
            return Pending("", None, lambda: parts[0])
        one_of_each = [1] * self.size
        shares = self.all_to_all(name, parts, one_of_each, one_of_each)
        return shares.then(lambda values: values.sum(0, dtype=values.dtype))

    def all_to_all(self, name: str, rows: Tensor, send: list[int], receive: list[int]) -> Pending:
        """``[sum(receive), ...]``: from rank r ``receive[r]`` rows, in the order of ranks; ``rows`` holds what goes to
        rank 0, then what goes to rank 1, and so on."""
        rows = rows.contiguous()
        if self.size == 1:
            return Pending("", None, lambda: rows)
        received = rows.new_empty((sum(receive), *rows.shape[1:]))
        return self._start(
            f"all_to_all of {name}",
            lambda: dist.all_to_all_single(received, rows, receive, send, group=self.group, async_op=True),
            lambda: received,
        )

    def _start(self, what: str, start: Callable[[], Any], result: Callable[[], Tensor]) -> Pending:
        what = f"{what} on rank {self.rank} of {self.size}"
        try:
            return Pending(what, start(), result)
        except RuntimeError as error:
            raise RuntimeError(f"{what} failed: {error}") from error


def padded(own: Tensor, rows: int) -> Tensor:
    """``[rows, ...]``: ``own``, then zeros."""
    if own.shape[0] == rows:
        return own
    result = own.new_zeros((rows, *own.shape[1:]))
    result[: own.shape[0]] = own
    return result


def padded_parts(values: Tensor, counts: list[int]) -> Tensor:
    """``[P, most, ...]``: what is for each rank, in their order ``counts[r]`` values for rank r, then zeros."""
    return torch.stack([padded(part, max(counts)) for part in values.split(counts)])


def without_padding(gathered: Tensor, counts: list[int]) -> Tensor:
    """The first ``counts[r]`` rows of each rank r, one after the other, of ``[P, rows, ...]``."""
    if all(count == gathered.shape[1] for count in counts):
        return gathered.flatten(0, 1)
    return torch.cat([part[:count] for part, count in zip(gathered, counts, strict=True)])


def as_words(numbers: Tensor) -> Tensor:
    """float64 numbers as int64 words, to travel beside such."""
    return numbers.contiguous().view(torch.int64)


def as_floats(words: Tensor) -> Tensor:
    """What :func:`as_words` was given."""
    return words.contiguous().view(torch.float64)
