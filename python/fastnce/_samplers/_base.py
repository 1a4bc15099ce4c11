"""What all samplers share: the call of a function, and the object whose calls continue a stream."""

from __future__ import annotations

import copy
import operator
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

import numpy as np
import numpy.typing as npt

from fastnce import _core
from fastnce._arrays import like
from fastnce._devices import Device, cuda_device_of
from fastnce._samplers._batch import Batch
from fastnce._samplers._counter import Counter
from fastnce._seed import Seed, integer, seed_words, word
from fastnce._types import ArrayT, IdLists, LabelsLike, NumpySamples, Ragged, SampledValues, SamplerState

if TYPE_CHECKING:
    from typing import Self


def first_call(
    distribution: _core.Distribution,
    true_classes: Any,
    num_true: SupportsIndex,
    num_sampled: SupportsIndex,
    unique: bool | np.bool,
    range_max: SupportsIndex,
    seed: Seed,
) -> SampledValues:
    """What a sampler of this seed draws first."""
    first, second = seed_words(seed)
    arguments = (distribution, true_classes, num_true, num_sampled, unique, range_max, first, second, 0)
    device = cuda_device_of(true_classes, "true_classes", range_max)
    if device is None:
        return SampledValues(*map(like(true_classes), _core.candidates(*arguments, None, 0)))
    with device.call():
        values = _core.candidates(on_device(distribution, device), *arguments[1:], device, 0)
    return SampledValues(*map(device.hand_over, values))


def on_device(distribution: _core.Distribution, device: Device) -> _core.Distribution:
    """The distribution, with a copy of its table in the memory of the device."""
    if not isinstance(distribution, _core.UnigramTable):
        return distribution
    memory, address = device.empty("int64", ((distribution.device_bytes + 7) // 8,))
    return distribution.on_device(memory, address, device)


def position(seed: Any, seed2: Any, calls: Any) -> tuple[int, int, int]:
    """The fields of a state, validated; seeds as unsigned words."""
    names = [f"state.{field}" for field in SamplerState._fields]
    first, second, number = map(integer, (seed, seed2, calls), names)
    if not 0 <= number < 2**63:
        raise ValueError(f"state.calls = {number}: expected an integer in [0, 2**63)")
    return word(first, names[0]), word(second, names[1]), number


def is_own_sampler(sampler: Any) -> bool:
    """Whether calls of it may be replaced by calls of the library: a sampler of fastnce, unless it is of a subclass
    with a ``__call__`` of its own, which is a callable like any other."""
    own = getattr(type(sampler), "_own_call", None)
    return own is not None and type(sampler).__call__ is own


@contextmanager
def turn(sampler: Any) -> Iterator[None]:
    """The lock of a sampler that learns, to draw or to change its state.

    A signal handler runs on the thread of the call that it interrupts, for which the lock is open: there the sampler
    would learn what the interrupted call must not count yet.
    """
    with sampler._lock:
        if sampler._in_turn:
            raise RuntimeError(
                f"the {type(sampler).__name__} is drawing: expected no other call of it, and no change of its state, "
                "before it is done; a signal handler may use a copy, copy.copy(sampler)"
            )
        try:
            sampler._in_turn = True
            yield
        finally:
            sampler._in_turn = False


class Sampler:
    """A sampler whose calls continue one random stream, as a TensorFlow op does in a graph.

    The sizes are fixed for the life of a sampler. Threads may share a sampler.

    A sampler belongs to the device of its first call; a call on another raises ``ValueError``. A CUDA device counts the
    calls itself, so that each replay of a CUDA graph draws fresh ids. The first call must precede the capture; the
    caller must order calls on several streams; ``state`` synchronises. A graph keeps the seed with which it was
    captured, and may outlive the sampler. Copies and pickles belong to no device.
    """

    def __init__(
        self,
        distribution: _core.Distribution,
        range_max: SupportsIndex,
        num_sampled: SupportsIndex,
        num_true: SupportsIndex,
        unique: bool | np.bool,
        seed: Seed,
    ) -> None:
        _core.check_sampler(distribution, num_true, num_sampled, unique, range_max)
        if isinstance(distribution, tuple):
            distribution = (distribution[0], *map(float, distribution[1:]))  # parameters may be mutable: arrays
        self._distribution = distribution
        # The stream of a call depends on num_sampled: fixed for the life of a sampler.
        self._arguments = (
            operator.index(num_true),
            operator.index(num_sampled),
            bool(unique),
            operator.index(range_max),
        )
        self._seed, self._seed2 = seed_words(seed)
        self._calls = 0  # on the CPU; a CUDA device counts in its own memory
        self._place: str | None = None  # the device of the first call
        self._counter: Counter | None = None
        self._on_device: Any = None  # the distribution, its table in the device's memory, once there is a counter
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
        """Sample for one batch.

        Args:
            true_classes: ``[B, num_true]`` or ``[B]`` integer classes, or a :class:`Ragged` with a list for each
                example.
            num_groups: G, a divisor of B: S classes for each of G groups of B / G consecutive examples. None: S for
                all. Group g of call c draws what call c G + g draws without groups; each group has its own number of
                tries.
            exclude: A :class:`Ragged` with a list of classes for each example, which are drawn again; needs
                ``num_groups`` = B. A class of probability p then has the probability p / (1 - the sum of those of the
                excluded classes), at most 1. A list that leaves little probability takes 1 / that many draws for each
                sample. On the CPU only.

        Returns:
            ``SampledValues(ids [S], true counts [B, T], sampled counts [S])``; with ``num_groups`` ids and sampled
            counts are ``[G, S]``. True counts of a :class:`Ragged` are ``[n]``.

        Raises:
            ValueError: A class out of range; G < 1, or not a divisor of B; lists to exclude without G = B, or that
                leave an example no class, or fewer than S where samples are unique; offsets that are none.
            TypeError: Classes that are not integers.
        """
        batch = Batch.of(true_classes, num_groups, exclude)
        device = cuda_device_of(batch.classes, "true_classes", self.range_max)
        return self._call_on_cpu(batch) if device is None else self._call_on_cuda(batch, device)

    _own_call = __call__

    def _call_on_cuda(self, batch: Batch, device: Device) -> SampledValues:
        batch.require_no_lists()
        with device.call():
            with self._lock:
                self._settle_on(str(device))
                if self._counter is None:
                    if device.captures:
                        raise ValueError("the sampler's first call is captured in a CUDA graph: expected one before")
                    self._on_device = on_device(self._distribution, device)
                    self._counter = Counter(device, self._calls)
                seed, seed2, address = self._seed, self._seed2, self._counter.address
            arguments = (*self._arguments, seed, seed2, 0, device, address)
            values = _core.candidates(self._on_device, batch.classes, *arguments, *batch.lists)
        return SampledValues(*map(device.hand_over, values))

    def _settle_on(self, place: str) -> None:
        if self._place not in (None, place):
            raise ValueError(
                f"true_classes is on device {place}: expected {self._place}, the device of the sampler's first call"
            )
        self._place = place

    def _call_on_cpu(self, batch: Batch) -> SampledValues:
        # The lock is held only to take a number: converting true_classes may run any Python code.
        with self._lock:
            self._settle_on("cpu")
            seed, seed2, call = self._seed, self._seed2, self._calls
            self._calls += 1
        try:
            arguments = (*self._arguments, seed, seed2, call, None, 0)
            values = _core.candidates(self._distribution, batch.classes, *arguments, *batch.lists)
        except BaseException:
            with self._lock:
                # If no other thread has drawn since, the number is given back.
                if (self._seed, self._seed2, self._calls) == (seed, seed2, call + 1):
                    self._calls = call
            raise
        return SampledValues(*map(like(batch.classes), values))

    @property
    def num_true(self) -> int:
        """True classes per example, T."""
        return self._arguments[0]

    @property
    def num_sampled(self) -> int:
        """Sampled classes per call, S."""
        return self._arguments[1]

    @property
    def unique(self) -> bool:
        """Whether the classes of a call are distinct."""
        return self._arguments[2]

    @property
    def range_max(self) -> int:
        """Number of classes, V."""
        return self._arguments[3]

    def _calls_made(self) -> int:
        return self._calls if self._counter is None else self._counter.read()

    def _move_to(self, seed: int, seed2: int, calls: int) -> None:
        with self._lock:
            self._seed, self._seed2, self._calls = seed, seed2, calls
            if self._counter is not None:
                self._counter.write(calls)  # in place: a captured graph may hold its address

    def _source(self) -> tuple[_core.Distribution, int, bool, int, int, int]:
        """The next call, as part of a mixture; :meth:`_advance` ends it. With the lock held."""
        return self._distribution, self.num_sampled, self.unique, self._seed, self._seed2, self._calls_made()

    def _advance(self, classes: npt.NDArray[np.int64]) -> None:
        self._calls += 1

    def _take_back(self, classes: npt.NDArray[np.int64], position: tuple[int, int, int]) -> None:
        """Undoes the :meth:`_advance` of a call from this position; its number only if no call came since."""
        with self._lock:
            seed, seed2, calls = position
            if (self._seed, self._seed2, self._calls) == (seed, seed2, calls + 1):
                self._calls = calls

    def _with_samples(self, num_sampled: SupportsIndex) -> Self:
        """A copy that draws as many classes."""
        _core.check_sampler(self._distribution, self.num_true, num_sampled, self.unique, self.range_max)
        other = copy.copy(self)
        other._arguments = (self.num_true, operator.index(num_sampled), self.unique, self.range_max)
        return other

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            own = {"_calls": self._calls_made(), "_place": None, "_counter": None, "_on_device": None}
            return {key: value for key, value in self.__dict__.items() if key not in ("_lock", "_in_turn")} | own

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.RLock()
        self._in_turn = False

    def __repr__(self) -> str:
        position = f"calls={self._calls}" if self._counter is None else f"device={self._place}"
        return (
            f"{type(self).__name__}(range_max={self.range_max}, num_sampled={self.num_sampled}, "
            f"num_true={self.num_true}, unique={self.unique}, {position})"
        )


class FixedSampler(Sampler):
    """A sampler that does not learn: its state is a position in the stream."""

    @property
    def state(self) -> SamplerState:
        """The position in the stream: ``SamplerState(seed, seed2, calls)``, three integers."""
        with self._lock:
            return SamplerState(self._seed, self._seed2, self._calls_made())

    @state.setter
    def state(self, state: SamplerState | tuple[int, int, int]) -> None:
        if not isinstance(state, tuple | list) or len(state) != 3:
            raise ValueError(f"state is {state!r}: expected (seed, seed2, calls)")
        self._move_to(*position(*state))
