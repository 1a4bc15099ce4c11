"""Candidate samplers: the classes that represent all others in a sampled loss."""

from __future__ import annotations

import operator
import threading
from typing import Any, ClassVar, SupportsIndex, overload

import numpy as np
import numpy.typing as npt

from fastnce import _core
from fastnce._arrays import like
from fastnce._devices import Device, cuda_device_of
from fastnce._seed import Seed, integer, seed_words, word
from fastnce._types import ArrayT, IdLists, IdsLike, NumpySamples, SampledValues, SamplerState


@overload
def log_uniform_candidate_sampler(
    true_classes: npt.NDArray[Any] | IdLists,
    num_true: SupportsIndex,
    num_sampled: SupportsIndex,
    unique: bool | np.bool,
    range_max: SupportsIndex,
    seed: Seed = ...,
    name: str | None = ...,
) -> NumpySamples: ...


@overload
def log_uniform_candidate_sampler(
    true_classes: ArrayT,
    num_true: SupportsIndex,
    num_sampled: SupportsIndex,
    unique: bool | np.bool,
    range_max: SupportsIndex,
    seed: Seed = ...,
    name: str | None = ...,
) -> SampledValues[ArrayT, ArrayT]: ...


def log_uniform_candidate_sampler(
    true_classes: IdsLike,
    num_true: SupportsIndex,
    num_sampled: SupportsIndex,
    unique: bool | np.bool,
    range_max: SupportsIndex,
    seed: Seed = None,
    name: str | None = None,
) -> SampledValues:
    """Sample classes from a log-uniform (Zipfian) distribution: ``tf.random.log_uniform_candidate_sampler``.

    ::

        p(k) = log((k + 2) / (k + 1)) / log(range_max + 1),      k in [0, range_max)
        expected count of k = num_sampled * p(k)                 with replacement
                            = 1 - (1 - p(k))**tries              unique; tries: draws until num_sampled were distinct

    For classes sorted by decreasing frequency. The whole batch shares one set of samples; true classes are not excluded
    from it. Calls with the same seed return the same ids; :class:`LogUniformSampler` continues a stream. Unique
    sampling of nearly all classes takes about V log(V)**2 draws; Ctrl-C on the main thread ends it within about a tenth
    of a second. On CUDA (not yet run on a GPU) the ids are the same, and the expected count of a class out of range is
    NaN.

    Args:
        true_classes: ``[B, num_true]`` (or ``[B]`` if ``num_true`` is 1) integer classes.
        num_true: True classes per example, T.
        num_sampled: Classes to sample, S.
        unique: Sample without repetition.
        range_max: Number of classes, V, at most 2**63 - 1.
        seed: ``None`` for fresh entropy; a pair ``(seed, seed2)``, which gives the ids of TensorFlow's op with these
            attributes on its first call; or an int, TensorFlow's op seed.
        name: Ignored.

    Returns:
        ``SampledValues(sampled_candidates [S], true_expected_count [B, T], sampled_expected_count [S])``.

    Raises:
        ValueError: On the CPU a class outside [0, range_max); S < 1, or S > V with ``unique``; the message says which.
        TypeError: Classes that are not integers.
    """
    first, second = seed_words(seed)
    arguments = (true_classes, num_true, num_sampled, unique, range_max, first, second, 0)
    device = cuda_device_of(true_classes, "true_classes", range_max)
    if device is None:
        return SampledValues(*map(like(true_classes), _core.log_uniform_candidates(*arguments, None, 0)))
    with device.call():
        values = _core.log_uniform_candidates(*arguments, device, 0)
    return SampledValues(*map(device.hand_over, values))


class LogUniformSampler:
    """A log-uniform sampler whose calls continue one random stream, as a TensorFlow op does in a graph.

    >>> sampler = LogUniformSampler(range_max=50_000, num_sampled=64, seed=7)
    >>> values = sampler(labels)                       # a SampledValues, fresh ids at each call
    >>> loss = nce_loss(..., sampled_values=values)

    ``range_max`` is the number of classes V, ``num_sampled`` S, ``num_true`` T; ``unique``, ``seed`` and the errors are
    those of :func:`log_uniform_candidate_sampler`. The sizes are fixed for the life of a sampler. ``state`` can be
    saved and set: a resumed run draws the same ids. Threads may share a sampler.

    A sampler belongs to the device of its first call; a call on another raises ``ValueError``. A CUDA device (not yet
    run on a GPU) counts the calls itself, so that each replay of a CUDA graph draws fresh ids. The first call must
    precede the capture; the caller must order calls on several streams; ``state`` synchronises. A graph keeps the seed
    with which it was captured, and may outlive the sampler. Copies and pickles belong to no device.
    """

    def __init__(
        self,
        range_max: SupportsIndex,
        num_sampled: SupportsIndex,
        *,
        num_true: SupportsIndex = 1,
        unique: bool | np.bool = True,
        seed: Seed = None,
    ) -> None:
        _core.check_sampler(num_true, num_sampled, unique, range_max)
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
        self._counter: _Counter | None = None
        self._lock = threading.RLock()

    @overload
    def __call__(self, true_classes: npt.NDArray[Any] | IdLists) -> NumpySamples: ...

    @overload
    def __call__(self, true_classes: ArrayT) -> SampledValues[ArrayT, ArrayT]: ...

    def __call__(self, true_classes: IdsLike) -> SampledValues:
        """Sample for one batch of true classes, ``[B, num_true]`` or ``[B]``."""
        device = cuda_device_of(true_classes, "true_classes", self.range_max)
        return self._call_on_cpu(true_classes) if device is None else self._call_on_cuda(true_classes, device)

    def _call_on_cuda(self, true_classes: Any, device: Device) -> SampledValues:
        with device.call():
            with self._lock:
                self._settle_on(str(device))
                if self._counter is None:
                    if device.captures:
                        raise ValueError("the sampler's first call is captured in a CUDA graph: expected one before")
                    self._counter = _Counter(device, self._calls)
                seed, seed2, address = self._seed, self._seed2, self._counter.address
            values = _core.log_uniform_candidates(true_classes, *self._arguments, seed, seed2, 0, device, address)
        return SampledValues(*map(device.hand_over, values))

    def _settle_on(self, place: str) -> None:
        if self._place not in (None, place):
            raise ValueError(
                f"true_classes is on device {place}: expected {self._place}, the device of the sampler's first call"
            )
        self._place = place

    def _call_on_cpu(self, true_classes: Any) -> SampledValues:
        # The lock is held only to take a number: converting true_classes may run any Python code.
        with self._lock:
            self._settle_on("cpu")
            seed, seed2, call = self.state
            self._calls += 1
        try:
            values = _core.log_uniform_candidates(true_classes, *self._arguments, seed, seed2, call, None, 0)
        except BaseException:
            with self._lock:
                if self.state == (seed, seed2, call + 1):  # no other thread has drawn since: give the number back
                    self._calls = call
            raise
        return SampledValues(*map(like(true_classes), values))

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

    @property
    def state(self) -> SamplerState:
        """The position in the stream: ``SamplerState(seed, seed2, calls)``, three integers."""
        with self._lock:
            calls = self._calls if self._counter is None else self._counter.read()
            return SamplerState(self._seed, self._seed2, calls)

    @state.setter
    def state(self, state: SamplerState | tuple[int, int, int]) -> None:
        if not isinstance(state, tuple | list) or len(state) != 3:
            raise ValueError(f"state is {state!r}: expected (seed, seed2, calls)")
        names = [f"state.{field}" for field in SamplerState._fields]
        seed, seed2, calls = map(integer, state, names)
        if not 0 <= calls < 2**63:
            raise ValueError(f"state.calls = {calls}: expected an integer in [0, 2**63)")
        with self._lock:
            self._seed, self._seed2, self._calls = word(seed, names[0]), word(seed2, names[1]), calls
            if self._counter is not None:
                self._counter.write(calls)  # in place: a captured graph may hold its address

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            own = {"_calls": self.state.calls, "_place": None, "_counter": None}
            return {key: value for key, value in self.__dict__.items() if key != "_lock"} | own

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        position = f"calls={self._calls}" if self._counter is None else f"device={self._place}"
        return (
            f"LogUniformSampler(range_max={self.range_max}, num_sampled={self.num_sampled}, "
            f"num_true={self.num_true}, unique={self.unique}, {position})"
        )


class _Counter:
    """Calls counted in the memory of a CUDA device.

    Its memory is never freed: a CUDA graph that captured a call may be replayed after the end of the sampler, and work
    that counts may still be queued on any stream. Counters share pages, so that each costs 8 bytes.
    """

    _PAGE = 512  # counters
    _lock = threading.RLock()
    _pages: ClassVar[list[Any]] = []
    _free: ClassVar[dict[tuple[type[Device], int], list[int]]] = {}

    def __init__(self, device: Device, calls: int) -> None:
        self._device = device
        self.address = self._take(device)
        _core.cuda_write(calls, self.address, device)

    @classmethod
    def _take(cls, device: Device) -> int:
        with cls._lock:
            free = cls._free.setdefault((type(device), device.index), [])
            if not free:
                page, address = device.empty("int64", (cls._PAGE,))
                cls._pages.append(page)
                # What this stream did before with the memory must not reach counters that are written on another.
                _core.cuda_synchronize(device)
                free.extend(range(address, address + 8 * cls._PAGE, 8))
            return free.pop()

    def read(self) -> int:
        """Waits for the framework's current stream."""
        return _core.cuda_read(self.address, self._device)

    def write(self, calls: int) -> None:
        _core.cuda_write(calls, self.address, self._device)


@overload
def compute_accidental_hits(
    true_classes: npt.NDArray[Any] | IdLists,
    sampled_candidates: IdsLike,
    num_true: SupportsIndex,
    seed: Seed = ...,
    name: str | None = ...,
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64], npt.NDArray[np.float32]]: ...


@overload
def compute_accidental_hits(
    true_classes: ArrayT,
    sampled_candidates: IdsLike,
    num_true: SupportsIndex,
    seed: Seed = ...,
    name: str | None = ...,
) -> tuple[ArrayT, ArrayT, ArrayT]: ...


def compute_accidental_hits(
    true_classes: IdsLike,
    sampled_candidates: IdsLike,
    num_true: SupportsIndex,
    seed: Seed = None,
    name: str | None = None,
) -> tuple[Any, Any, Any]:
    """Find the sampled classes that are true classes of an example: ``tf.nn.compute_accidental_hits``.

    Where a class was sampled several times every position is reported; TensorFlow reports the last one only.

    Args:
        true_classes: ``[B, num_true]`` (or ``[B]`` if ``num_true`` is 1) integer classes.
        sampled_candidates: ``[S]`` integer classes.
        num_true: True classes per example, T.
        seed: Ignored, as in TensorFlow.
        name: Ignored.

    Returns:
        ``(indices int32 [H], ids int64 [H], weights float32 [H])``: hit h is position ``ids[h]`` of the samples in
        example ``indices[h]``, by example, then true column, then position; every weight is ``-FLT_MAX``.

    Raises:
        ValueError: Wrong rank or shape, arrays on a CUDA device: there the loss takes ``remove_accidental_hits``.
        TypeError: Classes that are not integers.
    """
    hits = _core.accidental_hits(true_classes, sampled_candidates, num_true)
    indices, ids, weights = map(like(true_classes), hits)
    return indices, ids, weights
