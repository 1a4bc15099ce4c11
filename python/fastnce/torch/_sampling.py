"""What a module samples from: a distribution, in whose stream the module keeps the position, or a callable.

Samplers that do not learn are pure functions of seed and position. Others are called, once for each forward pass; their
samples are remembered where the pass may be repeated. Operators do either, so that no graph breaks.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from fastnce import _core
from fastnce._errors import is_a
from fastnce._types import LearnedSamplerState, SampledValues, SamplerState
from fastnce.torch._arguments import SAMPLERS, require_option, require_sampled_values
from fastnce.torch._stream import may_be_repeated, repeats

AnySampler: TypeAlias = Callable[[Any], SampledValues]
"""A sampler of fastnce, or whatever draws ``SampledValues`` for classes ``[B, T]``."""

_REMEMBERED = 256

_lock = threading.RLock()
_samplers: dict[int, Any] = {}
_keys = itertools.count()
_values: OrderedDict[tuple[int, int], tuple[Tensor, Tensor, Tensor]] = OrderedDict()


def require_sampler(sampler: Any, sizes: dict[str, int]) -> None:
    """Raises TypeError or ValueError for what cannot sample for a module of these sizes."""
    if isinstance(sampler, str):
        return require_option("sampler", sampler, SAMPLERS)
    if not callable(sampler):
        raise TypeError(f"sampler {is_a(sampler)}: expected 'log_uniform', a sampler of fastnce or another callable")
    if not has_state(sampler):
        return
    for name, of_module in (("range_max", "num_classes"), ("num_sampled", "num_sampled"), ("num_true", "num_true")):
        own = getattr(sampler, name)
        if own != sizes[of_module]:
            raise ValueError(f"sampler has {name} = {own}: expected {sizes[of_module]}, {of_module} of the module")


def has_state(sampler: Any) -> bool:
    """Whether it is a sampler of fastnce."""
    return type(sampler).__module__.startswith("fastnce.")


def new_key(module: torch.nn.Module, sampler: Any) -> Tensor:
    """What the operators know a module's sampler by, as long as the module lives: a tensor, so that modules share a
    compiled graph."""
    number = next(_keys)
    _samplers[number] = sampler
    weakref.finalize(module, _samplers.pop, number)
    return torch.tensor(number, dtype=torch.int64, device="cpu")


def distribution_of(key: Tensor | None) -> Any:
    return "log_uniform" if key is None else _samplers[int(key)]._distribution


def states_of(sampler: Any) -> list[Any]:
    """The positions of a sampler's sources, with the weights of those that learn."""
    state = sampler.state
    return list(state) if isinstance(state[0], tuple) else [state]


def as_tensors(sampler: Any) -> tuple[Tensor, Tensor]:
    """Positions ``[sources, 3]`` int64, and the weights of all sources that learn, one after the other, int32."""
    states = states_of(sampler)
    positions = [[word - 2**64 if word >= 2**63 else word for word in state[:3]] for state in states]
    weights = [torch.from_numpy(state[3]) for state in states if len(state) > 3]
    learned = torch.cat(weights) if weights else torch.empty(0, dtype=torch.int32, device="cpu")
    return torch.tensor(positions, dtype=torch.int64, device="cpu"), learned


def restore(sampler: Any, positions: Tensor, weights: Tensor) -> None:
    """Sets the state that :func:`as_tensors` returned."""
    own, learned = states_of(sampler), weights.cpu().to(torch.int32)
    states: list[SamplerState | LearnedSamplerState] = []
    for state, (seed, seed2, calls) in zip(own, positions.cpu().to(torch.int64).tolist(), strict=True):
        position = (seed % 2**64, seed2 % 2**64, calls)
        if len(state) == 3:
            states.append(SamplerState(*position))
        else:
            head, learned = learned[: sampler.range_max], learned[sampler.range_max :]
            states.append(LearnedSamplerState(*position, head.numpy()))
    sampler.state = states[0] if not isinstance(sampler.state[0], tuple) else tuple(states)


def in_range(target: Tensor, ignore_index: int | None, eager: bool) -> Tensor:
    """Classes for whose counts an operator may be asked: 0 for ``ignore_index``, whose counts are not read."""
    if ignore_index is None or (eager and target.is_cpu and not _contains(target, ignore_index)):
        return target
    return torch.where(target.long() == ignore_index, 0, target.long())


def _contains(target: Tensor, ignore_index: int) -> bool:
    return _core.contains(target.resolve_neg().numpy(), "labels", ignore_index)


def call(
    classes: Tensor, sampler: Tensor, number: Tensor | int, num_sampled: int, ignore_index: int | None
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
    values = _drawn(_samplers[mark[0]], classes, num_sampled, ignore_index)
    if may_be_repeated(torch.is_grad_enabled()):
        with _lock:
            _values[mark] = values
            if len(_values) > _REMEMBERED:
                _values.popitem(last=False)
    return values


def _drawn(
    sampler: AnySampler, classes: Tensor, num_sampled: int, ignore_index: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    """An ignored class is drawn for as another one of its example; an example without one is left out: a sampler that
    learns must not count what is no class."""
    if ignore_index is None or (classes.is_cpu and not _contains(classes, ignore_index)):
        return _tensors(sampler(classes), classes, num_sampled)
    classes = classes.long()
    is_class = classes != ignore_index
    kept = is_class.any(1)
    first = classes.gather(1, is_class.to(torch.uint8).argmax(1, keepdim=True))
    classes = torch.where(is_class, classes, first)
    ids, true_count, sampled_count = _tensors(sampler(classes[kept]), classes[kept], num_sampled)
    count = true_count.new_ones(classes.shape)
    count[kept] = true_count
    return ids, count, sampled_count


def _tensors(values: Any, classes: Tensor, num_sampled: int) -> tuple[Tensor, Tensor, Tensor]:
    """Samples of any library as tensors of the shapes that a compiled graph expects."""
    device = classes.device
    if isinstance(values, tuple | list) and len(values) == 3:
        values = [None if value is None else torch.as_tensor(value, device=device) for value in values]
    require_sampled_values(values, device)
    ids, *counts = values
    if ids.shape != (num_sampled,):
        raise ValueError(
            f"sampled_candidates has shape {list(ids.shape)}: expected [num_sampled] = [{num_sampled}], as the module"
        )
    shapes = (classes.shape, ids.shape)
    true_count, sampled_count = (
        torch.ones(shape, device=device) if count is None else count.to(torch.float32).reshape(shape)
        for count, shape in zip(counts, shapes, strict=True)
    )
    return ids.long(), true_count, sampled_count
