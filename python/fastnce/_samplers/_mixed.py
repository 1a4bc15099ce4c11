"""Candidates from several samplers at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, SupportsIndex, TypeAlias, overload

import numpy as np
import numpy.typing as npt

from fastnce import _core
from fastnce._arrays import like
from fastnce._devices import cuda_device_of
from fastnce._errors import is_a
from fastnce._samplers._base import FixedSampler, is_own_sampler, turn
from fastnce._samplers._batch import Batch
from fastnce._samplers._learned_unigram import LearnedUnigramSampler
from fastnce._types import (
    ArrayT,
    IdLists,
    LabelsLike,
    LearnedSamplerState,
    NumpySamples,
    Ragged,
    SampledValues,
    SamplerState,
)

Source: TypeAlias = FixedSampler | LearnedUnigramSampler


class MixedSampler:
    """Candidates from several samplers: the interface of :class:`LogUniformSampler`.

    >>> sampler = MixedSampler([(LogUniformSampler(V, 64, seed=1), 48), (UniformSampler(V, 64, seed=2), 16)])
    >>> values = sampler(labels)                       # 48 log-uniform classes, then 16 uniform ones

    ::

        expected count of k = sum over the sources of their expected counts of k

    for true and for sampled classes alike. A class that two sources draw stands there twice.

    ``sources`` are pairs of a sampler and of how many classes it contributes to each call, all for the same
    ``range_max`` and ``num_true``. The mixture draws from copies: it begins where the samplers are in their streams,
    and with what they have learned. Sources of one seed use the same random numbers: give each its own. ``state`` is
    the tuple of the sources' states. Calls of several threads come one after the other; a call
    from a signal handler that interrupts another one raises ``RuntimeError``. On the CPU only.

    Raises:
        ValueError: No sources; samplers that differ in ``range_max`` or ``num_true``; a number of classes that a
            sampler refuses.
        TypeError: Sources that are not pairs of a sampler of fastnce and an integer.
    """

    def __init__(self, sources: Sequence[tuple[Source, SupportsIndex]]) -> None:
        samplers: list[Source] = []
        for i, source in enumerate(sources):
            if not isinstance(source, tuple | list) or len(source) != 2:
                raise TypeError(f"sources[{i}] {is_a(source)}: expected a pair (sampler, number of classes)")
            sampler, number = source
            if isinstance(sampler, MixedSampler) or not is_own_sampler(sampler):
                raise TypeError(
                    f"sources[{i}][0] {is_a(sampler)}: expected a sampler of fastnce, neither a mixture nor "
                    "one of a subclass with a __call__ of its own"
                )
            samplers.append(sampler._with_samples(number))
            for name in ("range_max", "num_true"):
                own, first = getattr(sampler, name), getattr(samplers[0], name)
                if own != first:
                    raise ValueError(f"sources[{i}] has {name} = {own}: expected {first}, that of sources[0]")
        if not samplers:
            raise ValueError("sources is empty: expected at least one pair (sampler, number of classes)")
        self._samplers = tuple(samplers)
        self._lock = threading.RLock()
        self._in_turn = False

    @overload
    def __call__(
        self,
        true_classes: npt.NDArray[Any] | IdLists | Ragged[npt.NDArray[Any]],
        *,
        num_groups: SupportsIndex | None = ...,
        exclude: Ragged | None = ...,
    ) -> NumpySamples: ...

    @overload
    def __call__(
        self,
        true_classes: ArrayT | Ragged[ArrayT],
        *,
        num_groups: SupportsIndex | None = ...,
        exclude: Ragged | None = ...,
    ) -> SampledValues[ArrayT, ArrayT]: ...

    def __call__(
        self, true_classes: LabelsLike, *, num_groups: SupportsIndex | None = None, exclude: Ragged | None = None
    ) -> SampledValues:
        """Sample for one batch, as :meth:`LogUniformSampler.__call__` does; S is the sum of what the sources draw."""
        return self._sample(true_classes, None, num_groups, exclude)[0]

    _own_call = __call__

    def _sample(
        self,
        true_classes: Any,
        learned: npt.NDArray[np.int64] | None = None,
        num_groups: SupportsIndex | None = None,
        exclude: Ragged | None = None,
    ) -> tuple[SampledValues, Callable[[], None]]:
        """A call, and what undoes it; learns ``learned`` where that is not ``true_classes``."""
        batch = Batch.of(true_classes, num_groups, exclude)
        device = cuda_device_of(batch.classes, "true_classes", self.range_max)
        if device is not None:
            raise ValueError(f"true_classes is on device {device}: expected cpu, where mixtures are drawn")
        # Converting true classes may run any Python code; what the lock is held for runs none.
        given = batch.converted(self.num_true, self.range_max)
        counted = given.classes if learned is None else learned
        with turn(self):
            sources = [sampler._source() for sampler in self._samplers]
            values = _core.mixed_candidates(sources, given.classes, self.num_true, self.range_max, *given.lists)
            for sampler in self._samplers:
                sampler._advance(counted)

        def take_back() -> None:
            with turn(self):
                for sampler, (*_, seed, seed2, calls) in zip(self._samplers, sources, strict=True):
                    sampler._take_back(counted, (seed, seed2, calls))

        return SampledValues(*map(like(batch.classes), values)), take_back

    @property
    def num_true(self) -> int:
        """True classes per example, T."""
        return self._samplers[0].num_true

    @property
    def num_sampled(self) -> int:
        """Sampled classes per call, S: of all sources together."""
        return sum(sampler.num_sampled for sampler in self._samplers)

    @property
    def unique(self) -> bool:
        """Whether the classes of a call are distinct: of one source they may be."""
        return len(self._samplers) == 1 and self._samplers[0].unique

    @property
    def range_max(self) -> int:
        """Number of classes, V."""
        return self._samplers[0].range_max

    @property
    def state(self) -> tuple[SamplerState | LearnedSamplerState, ...]:
        """The states of the sources."""
        with self._lock:
            return tuple(sampler.state for sampler in self._samplers)

    @state.setter
    def state(self, state: Sequence[Any]) -> None:
        if not isinstance(state, tuple | list) or len(state) != len(self._samplers):
            raise ValueError(f"state is {state!r}: expected the states of {len(self._samplers)} sources")
        with turn(self):
            before = self.state
            try:
                for sampler, own in zip(self._samplers, state, strict=True):
                    sampler.state = own
            except BaseException:
                for sampler, own in zip(self._samplers, before, strict=True):
                    sampler.state = own
                raise

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            return {"sources": [(sampler, sampler.num_sampled) for sampler in self._samplers]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["sources"])  # type: ignore[misc]  # copies the samplers

    def __repr__(self) -> str:
        return f"MixedSampler({[(sampler, sampler.num_sampled) for sampler in self._samplers]!r})"
