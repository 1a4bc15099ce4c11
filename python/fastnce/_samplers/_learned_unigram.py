"""Weights that training counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, SupportsIndex, overload

import numpy as np
import numpy.typing as npt

from fastnce import _core
from fastnce._arrays import like
from fastnce._devices import Device
from fastnce._samplers._base import Sampler, first_call, position, turn
from fastnce._samplers._batch import Batch
from fastnce._seed import Seed
from fastnce._types import ArrayT, IdLists, IdsLike, LearnedSamplerState, NumpySamples, Ragged, SampledValues

_MOST_WEIGHT = 2**31 - 1
"""At which sum of all weights a sampler learns no more."""


@overload
def learned_unigram_candidate_sampler(
    true_classes: npt.NDArray[Any] | IdLists,
    num_true: SupportsIndex,
    num_sampled: SupportsIndex,
    unique: bool | np.bool,
    range_max: SupportsIndex,
    seed: Seed = ...,
    name: str | None = ...,
) -> NumpySamples: ...


@overload
def learned_unigram_candidate_sampler(
    true_classes: ArrayT,
    num_true: SupportsIndex,
    num_sampled: SupportsIndex,
    unique: bool | np.bool,
    range_max: SupportsIndex,
    seed: Seed = ...,
    name: str | None = ...,
) -> SampledValues[ArrayT, ArrayT]: ...


def learned_unigram_candidate_sampler(
    true_classes: IdsLike,
    num_true: SupportsIndex,
    num_sampled: SupportsIndex,
    unique: bool | np.bool,
    range_max: SupportsIndex,
    seed: Seed = None,
    name: str | None = None,
) -> SampledValues:
    """Sample classes by learned weights that are all 1 still: ``tf.random.learned_unigram_candidate_sampler``.

    A function has no memory: as in TensorFlow's first call every class has the weight 1. :class:`LearnedUnigramSampler`
    learns: a class gains a weight of 1 each time that it is a true class.

    Args:
        true_classes: ``[B, num_true]`` (or ``[B]`` if ``num_true`` is 1) integer classes.
        num_true: True classes per example, T.
        num_sampled: Classes to sample, S.
        unique: Sample without repetition.
        range_max: Number of classes, V, at most 2**31 - 1.
        seed: As in :func:`log_uniform_candidate_sampler`.
        name: Ignored.

    Returns:
        ``SampledValues(sampled_candidates [S], true_expected_count [B, T], sampled_expected_count [S])``.

    Raises:
        ValueError: A class outside [0, range_max); S < 1, or S > V with ``unique``; arrays on a CUDA device.
        TypeError: Classes that are not integers.
    """
    return first_call("learned_unigram", true_classes, num_true, num_sampled, unique, range_max, seed)


class LearnedUnigramSampler(Sampler):
    """A sampler that learns how frequent classes are: the interface of :class:`LogUniformSampler`.

    >>> sampler = LearnedUnigramSampler(range_max=50_000, num_sampled=64, seed=7)
    >>> values = sampler(labels)

    ::

        p(k) = weight(k) / sum of all weights,      weight(k) = 1 + how often k has been a true class before this call

    Ids and counts follow the weights before the call, which then adds 1 for each true class, until they add up to
    2**31 - 1. A draw and an addition take O(log V); the weights, which ``state`` holds, take 4.2 bytes per class.
    Calls of several threads come one after the other; a call from a signal handler that interrupts another one raises
    ``RuntimeError``. On the CPU only.

    ``range_max`` is the number of classes V, at most 2**31 - 1; the other arguments and the errors are those of
    :func:`learned_unigram_candidate_sampler`.
    """

    _distribution: _core.LearnedWeights

    def __init__(
        self,
        range_max: SupportsIndex,
        num_sampled: SupportsIndex,
        *,
        num_true: SupportsIndex = 1,
        unique: bool | np.bool = True,
        seed: Seed = None,
    ) -> None:
        _core.check_sampler("learned_unigram", num_true, num_sampled, unique, range_max)  # before memory is taken
        super().__init__(_core.LearnedWeights(range_max), range_max, num_sampled, num_true, unique, seed)

    def _call_on_cuda(self, batch: Batch, device: Device) -> SampledValues:
        raise ValueError(f"true_classes is on device {device}: expected cpu, since the weights are learned there")

    def _call_on_cpu(self, batch: Batch) -> SampledValues:
        return self._draw(batch)[0]

    def _sample(
        self,
        true_classes: Any,
        learned: npt.NDArray[np.int64] | None = None,
        num_groups: SupportsIndex | None = None,
        exclude: Ragged | None = None,
    ) -> tuple[SampledValues, Callable[[], None]]:
        """A call, and what undoes it; learns ``learned`` where that is not ``true_classes``."""
        return self._draw(Batch.of(true_classes, num_groups, exclude), learned)

    def _draw(
        self, batch: Batch, learned: npt.NDArray[np.int64] | None = None
    ) -> tuple[SampledValues, Callable[[], None]]:
        # Converting true classes may run any Python code; what the lock is held for runs none.
        given = batch.converted(self.num_true, self.range_max)
        counted = given.classes if learned is None else learned
        with turn(self):
            position = self._seed, self._seed2, self._calls
            arguments = (*self._arguments, *position, None, 0)
            values = _core.candidates(self._distribution, given.classes, *arguments, *given.lists)
            self._advance(counted)
        return SampledValues(*map(like(batch.classes), values)), lambda: self._take_back(counted, position)

    def _advance(self, classes: npt.NDArray[np.int64]) -> None:
        self._distribution.learn(classes)
        super()._advance(classes)

    def _take_back(self, classes: npt.NDArray[np.int64], position: tuple[int, int, int]) -> None:
        with turn(self):
            super()._take_back(classes, position)
            weights = self._distribution.weights
            if weights.sum(dtype=np.int64) == _MOST_WEIGHT:
                return  # where the addition ended is not known
            np.subtract.at(weights, classes.ravel(), 1)
            if (weights >= 1).all():  # or the state was set since
                self._distribution = _core.LearnedWeights.of_weights(weights)

    @property
    def weights(self) -> npt.NDArray[np.int32]:
        """The weight of every class, ``[V]``: a copy."""
        with self._lock:
            return self._distribution.weights

    @property
    def state(self) -> LearnedSamplerState:
        """The position in the stream and the weights: ``LearnedSamplerState(seed, seed2, calls, weights [V])``."""
        with self._lock:
            return LearnedSamplerState(self._seed, self._seed2, self._calls, self._distribution.weights)

    @state.setter
    def state(self, state: LearnedSamplerState | tuple[int, int, int, IdsLike]) -> None:
        if not isinstance(state, tuple | list) or len(state) != 4:
            raise ValueError(f"state is {state!r}: expected (seed, seed2, calls, weights)")
        moved, learned = position(*state[:3]), _core.LearnedWeights.of_weights(state[3])
        if len(learned) != self.range_max:
            raise ValueError(f"state.weights has {len(learned)} elements: expected range_max = {self.range_max}")
        with turn(self):
            self._distribution = learned
            self._move_to(*moved)

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:  # copies learn on their own
            return super().__getstate__() | {"_distribution": self._distribution.copy()}
