"""What a module samples from: a distribution, in whose stream the module keeps the position, or a callable.

Samplers that do not learn are pure functions of seed and position. Others are called, once for each forward pass; their
samples are remembered where the pass may be repeated. Operators do either, so that no graph breaks.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from fastnce import _core
from fastnce._errors import is_a
from fastnce._samplers._base import FixedSampler, Sampler, is_own_sampler
from fastnce._samplers._mixed import MixedSampler
from fastnce._types import SampledValues
from fastnce.torch._arguments import SAMPLERS, require_option, require_sampled_values
from fastnce.torch._stream import may_be_repeated, repeats

AnySampler: TypeAlias = Callable[[Any], SampledValues]
"""A sampler of fastnce, or whatever draws ``SampledValues`` for classes ``[B, T]``."""

Undo: TypeAlias = list[Callable[[], None]]
"""What takes back what samplers learned of a call that fails."""

_REMEMBERED = 256

_lock = threading.RLock()
_samplers: dict[int, Any] = {}
_values: OrderedDict[tuple[int, int], tuple[Tensor, Tensor, Tensor]] = OrderedDict()
_tables: dict[int, tuple[Tensor, _core.UnigramTable]] = {}  # of modules, by the address of the weights
_rebuilt = WeakTensorKeyDictionary()

is_exporting = getattr(torch.compiler, "is_exporting", bool)  # always false where PyTorch cannot tell


def require_sampler(sampler: Any, sizes: dict[str, int]) -> None:
    """Raises TypeError or ValueError for what cannot sample for a module of these sizes."""
    if isinstance(sampler, str):
        return require_option("sampler", sampler, SAMPLERS)
    if not callable(sampler):
        raise TypeError(f"sampler {is_a(sampler)}: expected 'log_uniform', a sampler of fastnce or another callable")
    if not has_seed(sampler):
        return
    for name, of_module in (("range_max", "num_classes"), ("num_sampled", "num_sampled"), ("num_true", "num_true")):
        own = getattr(sampler, name)
        if own != sizes[of_module]:
            raise ValueError(f"sampler has {name} = {own}: expected {sizes[of_module]}, {of_module} of the module")


def has_seed(sampler: Any) -> bool:
    """Whether it is of a class of fastnce, or of a subclass, also one that samples in its own way."""
    return isinstance(sampler, (Sampler, MixedSampler))


def is_fixed(sampler: Any) -> bool:
    """Whether its samples follow from seed and position: they are drawn without a call of it."""
    return isinstance(sampler, FixedSampler) and is_own_sampler(sampler)


def has_state(sampler: Any) -> bool:
    """Whether it learns, or is a mixture: its state is more than a seed and a number of calls."""
    return is_own_sampler(sampler) and not is_fixed(sampler)


def new_key(module: torch.nn.Module, sampler: Any) -> Tensor:
    """What the operators know a module's callable by, as long as the module lives: a tensor, so that modules share a
    compiled graph. A random number, since a graph may come from another process."""
    number = int.from_bytes(os.urandom(8), "little") >> 1
    _samplers[number] = sampler
    weakref.finalize(module, _samplers.pop, number)
    return torch.tensor(number, dtype=torch.int64, device="cpu")


def _sampler_of(key: int) -> Any:
    if key not in _samplers:
        raise RuntimeError(
            "the sampler of this graph is not in this process: expected the module that was traced, alive; or draw "
            "samples outside and pass them to a function such as fastnce.torch.nce_loss"
        )
    return _samplers[key]


def refuse_export() -> None:
    """Raises NotImplementedError where ``torch.export`` would put the key of a callable into a program."""
    if is_exporting():
        raise NotImplementedError(
            "torch.export: a program cannot hold a sampler that learns, a mixture or a callable of your own: expected "
            "'log_uniform' or a sampler of fastnce that does not learn; or draw samples outside and pass them to a "
            "function such as fastnce.torch.nce_loss"
        )


def as_arguments(distribution: _core.Distribution) -> tuple[str, Tensor | None]:
    """A distribution as operators take it, complete, so that a program needs nothing else: its name, with parameters
    after colons, and the weights ``[V]`` of a table."""
    if isinstance(distribution, _core.UnigramTable):
        return "unigram", torch.from_numpy(distribution.weights)
    if isinstance(distribution, tuple):
        return ":".join(map(str, distribution)), None
    assert isinstance(distribution, str)
    return distribution, None


def share_table(module: torch.nn.Module, weights: Tensor, table: _core.UnigramTable) -> None:
    """Lets operators find the table of these weights, as long as the module lives: building one takes O(V)."""
    address = weights.data_ptr()
    _tables[address] = weights, table
    weakref.finalize(module, _tables.pop, address, None)  # a shallow copy has the same weights


def distribution_of(name: str, weights: Tensor | None) -> _core.Distribution:
    """The distribution of :func:`as_arguments`."""
    if weights is None:
        kind, *parameters = name.split(":")
        return (kind, *map(float, parameters)) if parameters else kind
    known = _tables.get(weights.data_ptr())
    if known is not None:
        return known[1]
    with _lock:  # of a program whose module is gone, or was in another process
        if weights not in _rebuilt:
            _rebuilt[weights] = _core.UnigramTable.of_unigrams(weights.cpu().numpy(), 1.0, 0, 1, 0, False)
        table: _core.UnigramTable = _rebuilt[weights]
        return table


def in_range(target: Tensor, ignore_index: int | None, eager: bool) -> Tensor:
    """Classes for whose counts an operator may be asked: 0 for ``ignore_index``, whose counts are not read."""
    if ignore_index is None or (eager and target.is_cpu and not _contains(target, ignore_index)):
        return target
    return torch.where(target.long() == ignore_index, 0, target.long())


def _contains(target: Tensor, ignore_index: int) -> bool:
    return _core.contains(target.resolve_neg().numpy(), "labels", ignore_index)


def call(
    classes: Tensor,
    sampler: Tensor,
    number: Tensor | int,
    num_sampled: int,
    ignore_index: int | None,
    undo: Undo | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """What the callable of this key draws for classes ``[n, T]``: ids and expected counts, 1 where it gives none."""
    mark = int(sampler), id(number) if isinstance(number, Tensor) and number.is_cuda else int(number)
    if repeats():
        with _lock:
            remembered = _values.get(mark)
        if remembered is None:
            raise RuntimeError(
                "the loss runs again within a backward pass, but its samples are forgotten: expected at most "
                f"{_REMEMBERED} calls of losses whose sampler is a callable in between"
            )
        return remembered
    values = _drawn(_sampler_of(mark[0]), classes, num_sampled, ignore_index, undo)
    if may_be_repeated(torch.is_grad_enabled()):
        with _lock:
            _values[mark] = values
            if len(_values) > _REMEMBERED:
                _values.popitem(last=False)
    return values


def _drawn(
    sampler: AnySampler, classes: Tensor, num_sampled: int, ignore_index: int | None, undo: Undo | None
) -> tuple[Tensor, Tensor, Tensor]:
    """An ignored class is drawn for as another one of its example, but not learned; an example without one is left
    out."""
    if ignore_index is None or (classes.is_cpu and not _contains(classes, ignore_index)):
        return _tensors(_ask(sampler, classes, None, undo), classes, num_sampled)
    classes = classes.long()
    is_class = classes != ignore_index
    kept = is_class.any(1)
    learned = classes[is_class]
    first = classes.gather(1, is_class.to(torch.uint8).argmax(1, keepdim=True))
    classes = torch.where(is_class, classes, first)
    ids, true_count, sampled_count = _tensors(_ask(sampler, classes[kept], learned, undo), classes[kept], num_sampled)
    count = true_count.new_ones(classes.shape)
    count[kept] = true_count
    return ids, count, sampled_count


def _ask(sampler: Any, classes: Tensor, learned: Tensor | None, undo: Undo | None) -> Any:
    """What a sampler draws; one that learns counts ``learned``, if given, in place of ``classes``."""
    if not is_own_sampler(sampler):
        return sampler(classes)
    values, take_back = sampler._sample(classes, None if learned is None else learned.numpy(force=True))
    if undo is not None:
        undo.append(take_back)
    return values


def _tensors(values: Any, classes: Tensor, num_sampled: int) -> tuple[Tensor, Tensor, Tensor]:
    """Samples of any library as tensors of the shapes that a compiled graph expects."""
    device = classes.device
    if isinstance(values, tuple | list) and len(values) == 3:
        values = [None if value is None else torch.as_tensor(value, device=device) for value in values]
    require_sampled_values(values, device)
    ids, true_count, sampled_count = values
    if ids.shape != (num_sampled,):
        raise ValueError(
            f"sampled_candidates has shape {list(ids.shape)}: expected [num_sampled] = [{num_sampled}], as the module"
        )
    if true_count is None:
        return ids.long(), torch.ones(classes.shape, device=device), torch.ones(ids.shape, device=device)
    if true_count.dim() == 1 and true_count.shape[0] != 1:  # one for each example, as the functions take it
        if classes.shape[1] != 1:
            raise ValueError(
                f"true_expected_count has shape {list(true_count.shape)}: expected [B, num_true] = "
                f"{list(classes.shape)} or [B, 1]"
            )
        true_count = true_count.unsqueeze(1)
    true_count = _counts("true_expected_count", true_count, classes.shape, "[B, num_true]")
    sampled_count = _counts("sampled_expected_count", sampled_count, ids.shape, "that of sampled_candidates")
    return ids.long(), true_count, sampled_count


def _counts(name: str, count: Tensor, shape: torch.Size, letters: str) -> Tensor:
    """Expected counts of this shape, checked as the library checks those that it is given."""
    if count.dtype == torch.bool:
        raise TypeError(f"{name} has dtype bool: expected real numbers")
    if count.is_complex():
        dtype = str(count.dtype).removeprefix("torch.")
        raise TypeError(f"{name} has dtype {dtype}: expected an array of plain numbers")
    fits = count.dim() <= len(shape) and all(
        own in (1, wanted) for own, wanted in zip(reversed(count.shape), reversed(shape), strict=False)
    )
    if not fits:
        raise ValueError(
            f"{name} has shape {list(count.shape)}: expected a shape that broadcasts to {letters} = {list(shape)}"
        )
    return count.to(torch.float32).expand(shape).contiguous()
