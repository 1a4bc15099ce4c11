"""What ``state_dict`` holds of a stream of samples.

States are cast and averaged. So a seed is there as 16 small numbers, its bytes, which float16, bfloat16, float32 and
float64 hold exactly, and an average of one seed, too. Counts are truncated, as those of ``BatchNorm`` are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastnce._types import LearnedSamplerState, SamplerState
from fastnce.torch._arguments import FLOATS, int64_words

_SEED_BYTES = 16
_MOST_CALLS = 2**62
_MOST_WEIGHT = 2**31 - 1

ENTRIES = ("sampler_position", "sampler_weights")
"""Of a sampler that learns, or of a mixture: a row of the bytes of the seed and the number of calls for each source,
and the weights of the sources that learn, one after the other."""


def bytes_of(words: Tensor) -> Tensor:
    """The bytes of two int64 words as int64 numbers."""
    return words.view(torch.uint8).to(torch.int64)


def words_of(state: Any) -> Tensor:
    """The words of :func:`bytes_of`, for any number of seeds."""
    if not isinstance(state, Tensor) or state.shape[-1:] != (_SEED_BYTES,):
        raise ValueError(f"the state of the seed is {state!r}: expected a tensor of {_SEED_BYTES} bytes")
    if _loses_bytes(state.dtype):
        raise ValueError(
            f"the state of the seed has dtype {state.dtype}, which does not hold every byte: expected integers, "
            "float16, bfloat16, float32 or float64; save the state before it is cast"
        )
    seed_bytes = state.detach().cpu().double().round()
    if not ((seed_bytes >= 0) & (seed_bytes <= 255)).all():  # NaN is neither
        raise ValueError(f"the state of the seed is {state!r}: expected bytes, numbers from 0 to 255")
    return seed_bytes.to(torch.uint8).view(torch.int64)


def _loses_bytes(dtype: torch.dtype) -> bool:
    return dtype not in FLOATS and (dtype == torch.bool or dtype.is_floating_point or dtype.is_complex)


def are_calls(calls: Tensor) -> bool:
    """Whether these are numbers of calls: neither NaN nor inf, which would become numbers in int64."""
    return bool(((calls.double() >= 0) & (calls.double() < _MOST_CALLS)).all())


def entries_of(sampler: Any) -> dict[str, Tensor]:
    """The entries of ``state_dict`` for a sampler."""
    states = _states_of(sampler)
    seeds = bytes_of(torch.tensor([int64_words(state[:2]) for state in states], device="cpu"))
    calls = torch.tensor([[state[2]] for state in states], dtype=torch.int64, device="cpu")
    weights = [torch.from_numpy(state[3]) for state in states if len(state) > 3]
    learned = torch.cat(weights) if weights else torch.empty(0, dtype=torch.int32, device="cpu")
    return dict(zip(ENTRIES, (torch.cat([seeds, calls], 1), learned), strict=True))


def load_entries(sampler: Any, given: dict[str, Any]) -> dict[str, str]:
    """Sets a sampler's state to these entries, what is not given stays; returns what is wrong, by the entry's name."""
    if not given:
        return {}
    own = entries_of(sampler)
    wrong: dict[str, str] = {}
    for name, check in zip(ENTRIES, (_positions, _weights), strict=True):
        try:
            if name in given:
                own[name] = check(given[name], own[name])
        except ValueError as error:
            wrong[name] = str(error)
    if not wrong:
        try:
            _restore(sampler, *own.values())
        except ValueError as error:
            wrong[ENTRIES[1]] = str(error)  # too much weight in all
    return wrong


def _positions(given: Any, own: Tensor) -> Tensor:
    _require_shape(given, own, "rows of the 16 bytes of a seed and a number of calls")
    words_of(given[:, :_SEED_BYTES])
    calls = given[:, _SEED_BYTES:]
    if not are_calls(calls):
        raise ValueError(f"the numbers of calls are {calls.flatten().tolist()}: expected numbers of at least 0")
    return given.detach().cpu()


def _weights(given: Any, own: Tensor) -> Tensor:
    _require_shape(given, own, "the weight of every class, of each source that learns")
    if _loses_bytes(given.dtype):
        raise ValueError(f"dtype {given.dtype}: expected integers, or floating-point numbers of at least 16 bits")
    weights = given.detach().cpu().double()
    bad = (~((weights >= 1) & (weights <= _MOST_WEIGHT))).nonzero()  # NaN is neither
    if len(bad):
        first = int(bad[0])
        raise ValueError(f"element {first} is {weights[first].item():g}: expected 1 to {_MOST_WEIGHT}")
    return weights.to(torch.int32)


def _require_shape(given: Any, own: Tensor, what: str) -> None:
    if not isinstance(given, Tensor):
        raise ValueError(f"{given!r}: expected a tensor")
    if given.shape != own.shape:
        raise ValueError(f"shape {list(given.shape)}: expected {list(own.shape)}, {what}")


def _restore(sampler: Any, positions: Tensor, weights: Tensor) -> None:
    seeds = words_of(positions[:, :_SEED_BYTES]).tolist()
    calls = positions[:, _SEED_BYTES].to(torch.int64).tolist()
    states: list[SamplerState | LearnedSamplerState] = []
    for own, (seed, seed2), number in zip(_states_of(sampler), seeds, calls, strict=True):
        position = (seed % 2**64, seed2 % 2**64, number)
        if len(own) == 3:
            states.append(SamplerState(*position))
        else:
            head, weights = weights[: sampler.range_max], weights[sampler.range_max :]
            states.append(LearnedSamplerState(*position, head.numpy()))
    sampler.state = tuple(states) if isinstance(sampler.state[0], tuple) else states[0]


def _states_of(sampler: Any) -> list[Any]:
    """The positions of a sampler's sources, with the weights of those that learn."""
    state = sampler.state
    return list(state) if isinstance(state[0], tuple) else [state]
