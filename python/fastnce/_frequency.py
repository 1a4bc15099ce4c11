"""How often items occur in a stream of batches: log Q of in-batch negatives."""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, SupportsIndex, TypeAlias

import numpy as np
import numpy.typing as npt

from fastnce._arrays import like
from fastnce._errors import is_a
from fastnce._types import IdsLike

_FIRST_MULTIPLIER, _SECOND_MULTIPLIER = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


_Row: TypeAlias = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]
"""Buckets of one hash, their ``last`` and their ``interval``."""


class FrequencyState(NamedTuple):
    """What a :class:`FrequencyEstimator` has learned."""

    examples: int
    """How many it has met."""
    last: npt.NDArray[np.int64]
    """``[H, N]``: the number of the example that met a bucket last; -1: none has."""
    interval: npt.NDArray[np.float64]
    """``[H, N]``: how many examples lie between two that meet a bucket."""


class FrequencyEstimator:
    """Estimates how often items occur in batches, while they stream past: Yi et al. 2019, "Sampling-Bias-Corrected
    Neural Modeling for Large Corpus Item Recommendations".

    >>> frequency = FrequencyEstimator(num_buckets=1_000_000)
    >>> log_q = frequency(item_ids)                  # once per batch; the log_q of in_batch_softmax_loss

    For each item it keeps the mean number of examples from one occurrence to the next, d::

        d <- (1 - rate) d + rate (examples since the item occurred last)        p = 1 / d        log_q = log(B p)

    An item that occurs for the first time, as example n, has d = n. Intervals are counted in examples, not in batches
    as in the paper, so that items which occur several times in a batch are right, too: log_q is the logarithm of an
    expected count, which may exceed 1. On the CPU only.

    Args:
        num_buckets: N. Item k is in bucket ``k mod N``: with N at least the number of items, each has its own.
        num_hashes: H. Above 1, an item has another H - 1 buckets, by hashes of its id, and the longest of its H
            intervals counts: items that share a bucket make it shorter than their own.
        rate: How fast old intervals are forgotten: some ``1 / rate`` occurrences of an item are averaged. The relative
            error of d is about ``sqrt(rate / 2)`` then, where the stream does not change.

    Raises:
        ValueError: A size below 1, or a rate outside (0, 1].
        TypeError: Sizes that are not integers.
    """

    def __init__(self, num_buckets: SupportsIndex, *, num_hashes: SupportsIndex = 1, rate: float = 0.01) -> None:
        buckets, hashes = operator.index(num_buckets), operator.index(num_hashes)
        for name, value in (("num_buckets", buckets), ("num_hashes", hashes)):
            if value < 1:
                raise ValueError(f"{name} = {value}: expected at least 1")
        if not 0 < rate <= 1:
            raise ValueError(f"rate = {rate}: expected a number above 0, at most 1")
        self._rate = float(rate)
        self._lock = threading.RLock()  # a signal handler runs on the thread that may hold it
        self._is_learning = False
        self._state = FrequencyState(0, np.full((hashes, buckets), -1), np.zeros((hashes, buckets)))

    def __call__(self, item_ids: IdsLike) -> Any:
        """Learns the items of a batch, integers ``[B]``, and returns their ``log_q``, float32 ``[B]``, as an array of
        the kind that ``item_ids`` is."""
        return self._call(item_ids)[0]

    def _call(self, item_ids: IdsLike) -> tuple[Any, Callable[[], None]]:
        """A call, and what undoes it, unless another has come since."""
        ids = _ids(item_ids)
        with self._lock:
            if self._is_learning:
                raise RuntimeError(
                    "the FrequencyEstimator is learning: expected no other batch before it is done; a signal handler "
                    "may call log_q"
                )
            try:
                self._is_learning = True
                take_back = self._learn(ids)
            finally:
                self._is_learning = False
            log_q = self._log_q(ids, max(len(ids), 1))
        return like(item_ids)(log_q), take_back

    def log_q(self, item_ids: IdsLike, batch_size: SupportsIndex) -> Any:
        """The same of any items ``[N]`` and a batch of this size, without learning: of the extra items, or of a batch
        that is evaluated. An item that has not occurred counts as if it were the next example."""
        ids, size = _ids(item_ids), operator.index(batch_size)
        if size < 1:
            raise ValueError(f"batch_size = {size}: expected at least 1")
        with self._lock:
            log_q = self._log_q(ids, size)
        return like(item_ids)(log_q)

    @property
    def state(self) -> FrequencyState:
        """What was learned, as plain arrays: a copy, to be saved. Setting it restores it."""
        with self._lock:
            return FrequencyState(self._state.examples, self._state.last.copy(), self._state.interval.copy())

    @state.setter
    def state(self, state: FrequencyState | tuple[Any, Any, Any]) -> None:
        if not isinstance(state, tuple | list) or len(state) != 3:
            raise ValueError(f"state {is_a(state)}: expected (examples, last, interval)")
        restored = FrequencyState(
            operator.index(state[0]), np.array(state[1], np.int64), np.array(state[2], np.float64)
        )
        for name in ("last", "interval"):
            shape, expected = getattr(restored, name).shape, self._state.last.shape
            if shape != expected:
                raise ValueError(
                    f"state.{name} has shape {list(shape)}: expected [num_hashes, num_buckets] = {list(expected)}"
                )
        if restored.examples < 0:
            raise ValueError(f"state.examples = {restored.examples}: expected at least 0")
        if ((restored.last < -1) | (restored.last >= restored.examples)).any():
            raise ValueError(f"state.last: expected numbers of examples, -1 to {restored.examples - 1}")
        is_met = restored.last >= 0
        if not (np.isfinite(restored.interval) & ((restored.interval > 0) | ~is_met)).all():
            raise ValueError("state.interval: expected finite numbers, positive where an example was met")
        with self._lock:
            if self._is_learning:
                raise RuntimeError("the FrequencyEstimator is learning: expected no change of its state")
            self._state = restored

    def _buckets(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """``[H, B]``."""
        hashes, count = self._state.last.shape
        rows = [ids % count]
        for seed in range(1, hashes):
            # The finaliser of SplitMix64 (Steele, Lea and Flood 2014).
            word = ids.view(np.uint64) + np.uint64(seed * 0x9E3779B97F4A7C15 % 2**64)
            word = (word ^ (word >> np.uint64(30))) * _FIRST_MULTIPLIER
            word = (word ^ (word >> np.uint64(27))) * _SECOND_MULTIPLIER
            rows.append(((word ^ (word >> np.uint64(31))) % np.uint64(count)).astype(np.int64))
        return np.stack(rows)

    def _learn(self, ids: npt.NDArray[np.int64]) -> Callable[[], None]:
        first, last, interval = self._state
        if len(ids) == 0:
            return lambda: None
        rows = enumerate(self._buckets(ids))
        learned = [self._learn_row(last[row], interval[row], buckets, first) for row, buckets in rows]
        before = [(own, last[row, own], interval[row, own]) for row, (own, _, _) in enumerate(learned)]

        def store(examples: int, rows: list[_Row]) -> None:
            self._state = FrequencyState(examples, last, interval)
            for row, (own, last_of_own, interval_of_own) in enumerate(rows):
                last[row, own], interval[row, own] = last_of_own, interval_of_own

        def take_back() -> None:
            with self._lock:
                if self._state.last is last and self._state.examples == first + len(ids):
                    store(first, before)

        store(first + len(ids), learned)  # all at the end, so that Ctrl-C before leaves what there was
        return take_back

    def _learn_row(
        self,
        last: npt.NDArray[np.int64],
        interval: npt.NDArray[np.float64],
        buckets: npt.NDArray[np.int64],
        first: int,
    ) -> _Row:
        """The buckets that are met, and what their ``last`` and ``interval`` become.

        All occurrences of a bucket at once: m intervals x_1 ... x_m make of d
        ``(1 - rate)^m d + rate sum_i (1 - rate)^(m - i) x_i``."""
        order = np.argsort(buckets, kind="stable")
        sorted_buckets, number = buckets[order], first + order
        begin = np.flatnonzero(np.append(True, sorted_buckets[1:] != sorted_buckets[:-1]))
        own = sorted_buckets[begin]
        is_new = last[own] < 0
        before = np.empty_like(number)
        before[1:], before[begin] = number[:-1], last[own]
        lengths = np.diff(np.append(begin, len(order)))
        later = np.repeat(begin + lengths, lengths) - 1 - np.arange(len(order))  # of its bucket, in this batch
        share = self._rate * (1 - self._rate) ** later * (number - before)
        share[begin[is_new]] = 0  # what a new bucket begins with, not an interval
        d = np.where(is_new, number[begin] + 1.0, interval[own])
        d = (1 - self._rate) ** (lengths - is_new) * d + np.add.reduceat(share, begin)
        return own, number[begin + lengths - 1], d

    def _log_q(self, ids: npt.NDArray[np.int64], batch_size: int) -> npt.NDArray[np.float32]:
        examples, last, interval = self._state
        rows = np.arange(len(last))[:, np.newaxis]
        buckets = self._buckets(ids)
        d = np.where(last[rows, buckets] < 0, examples + 1.0, interval[rows, buckets]).max(axis=0)
        return np.asarray(np.log(batch_size) - np.log(d), np.float32)

    def __getstate__(self) -> dict[str, Any]:
        return {"rate": self._rate, "state": self.state}

    def __setstate__(self, state: dict[str, Any]) -> None:
        hashes, buckets = state["state"].last.shape
        self.__init__(buckets, num_hashes=hashes, rate=state["rate"])  # type: ignore[misc]
        self.state = state["state"]

    def __repr__(self) -> str:
        hashes, buckets = self._state.last.shape
        return f"FrequencyEstimator(num_buckets={buckets}, num_hashes={hashes}, rate={self._rate})"


def _ids(item_ids: IdsLike) -> npt.NDArray[np.int64]:
    ids = np.asarray(item_ids)
    if ids.size and ids.dtype.kind not in "iu":
        raise TypeError(f"item_ids has dtype {ids.dtype}: expected integers")
    if ids.ndim != 1:
        raise ValueError(f"item_ids has shape {list(ids.shape)}: expected [B]")
    return ids.astype(np.int64)
