"""Times of a step: on the device, and as a loop on the host sees them.

Device time: CUDA events around each single step, after the L2 cache has been overwritten, queued behind idle work so
that the host is ahead where it can be. Wall time: a loop of steps back to back, caches warm, until the device is done;
of that, host time: until the last step is queued. Without a GPU all three come from one loop.
"""

from __future__ import annotations

import gc
import itertools
import math
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch

# Of one series of steps in one round.
DEVICE_SECONDS, WALL_SECONDS = 0.008, 0.008
MOST_DEVICE_STEPS, MOST_WALL_STEPS = 8, 40
# How long the device idles at most while the host queues a series, and its cycles per second, roughly.
MOST_HOLD_SECONDS, CYCLES_PER_SECOND = 0.02, 1.8e9
WARM_STEPS = 3

Step = Callable[[], object]


class Turn(NamedTuple):
    """One contender's samples of one round, in milliseconds per step."""

    device: list[float]
    wall: float
    host: float


class Clock:
    """Times steps on one device."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        if self._cuda:
            l2 = torch.cuda.get_device_properties(device).L2_cache_size
            self._flush = torch.empty(max(4 * l2, 1 << 28), dtype=torch.int8, device=device)
            self._events = [
                (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True))
                for _ in range(MOST_DEVICE_STEPS)
            ]

    def synchronize(self) -> None:
        if self._cuda:
            torch.cuda.synchronize()

    def _loop(self, step: Step, steps: int) -> tuple[float, float]:
        """Seconds per step: wall and host."""
        self.synchronize()
        start = time.perf_counter()
        for _ in range(steps):
            step()
        queued = time.perf_counter()
        self.synchronize()
        return (time.perf_counter() - start) / steps, (queued - start) / steps

    def warm_up(self, step: Step) -> tuple[float, float]:
        """Wall and host seconds of a warm step."""
        self._loop(step, WARM_STEPS)
        return self._loop(step, WARM_STEPS)

    def _device(self, step: Step, steps: int, host_seconds: float) -> list[float]:
        """Milliseconds of each step on the device."""
        self.synchronize()
        hold = min(MOST_HOLD_SECONDS, 1.5 * steps * host_seconds + 1e-4)
        torch.cuda._sleep(int(hold * CYCLES_PER_SECOND))
        for before, after in self._events[:steps]:
            self._flush.zero_()
            before.record()
            step()
            after.record()
        self.synchronize()
        return [before.elapsed_time(after) for before, after in self._events[:steps]]

    def turn(self, step: Step, warm: tuple[float, float]) -> Turn:
        wall_seconds, host_seconds = warm
        gc.disable()
        try:
            wall_steps = _steps(WALL_SECONDS, wall_seconds, MOST_WALL_STEPS)
            wall, host = self._loop(step, wall_steps)
            if not self._cuda:
                return Turn([1e3 * wall], 1e3 * wall, 1e3 * host)
            device = self._device(step, _steps(DEVICE_SECONDS, wall_seconds, MOST_DEVICE_STEPS), host_seconds)
            return Turn(device, 1e3 * wall, 1e3 * host)
        finally:
            gc.enable()


def _steps(seconds: float, each: float, most: int) -> int:
    return max(1, min(most, math.ceil(seconds / max(each, 1e-7))))


def rounds(
    clock: Clock,
    steps: dict[str, Step],
    *,
    seconds: float,
    least: int,
    most: int,
    before_each: Callable[[str], None],
) -> dict[str, list[Turn]]:
    """All take turns, forwards and backwards, until the time is up, but at least so many rounds."""
    start = time.monotonic()
    warm = {}
    for name, step in steps.items():
        before_each(name)
        warm[name] = clock.warm_up(step)
    turns: dict[str, list[Turn]] = {name: [] for name in steps}
    order = list(steps)
    for number in itertools.count():
        if number >= most or (number >= least and time.monotonic() - start > seconds):
            return turns
        for name in order:
            before_each(name)
            turns[name].append(clock.turn(steps[name], warm[name]))
        order.reverse()
    raise AssertionError("unreachable")


def summary(turns: list[Turn]) -> dict[str, object]:
    """Medians, the share by which the middle half of the rounds spreads, and all samples."""
    device = [statistics.median(turn.device) for turn in turns]
    spread = 0.0
    if len(device) >= 4:
        low, middle, high = statistics.quantiles(device, n=4)
        spread = (high - low) / middle
    return {
        "device_ms": statistics.median(device),
        "wall_ms": statistics.median(turn.wall for turn in turns),
        "host_ms": statistics.median(turn.host for turn in turns),
        "spread": spread,
        "samples": {
            "device_ms": [[float(f"{value:.5g}") for value in turn.device] for turn in turns],
            "wall_ms": [float(f"{turn.wall:.5g}") for turn in turns],
            "host_ms": [float(f"{turn.host:.5g}") for turn in turns],
        },
    }


def ratio(theirs: list[Turn], ours: list[Turn], what: str) -> float:
    """Median over rounds of how many times as long they take; `what` is "device" or "wall"."""

    def of(turn: Turn) -> float:
        return statistics.median(turn.device) if what == "device" else turn.wall

    return statistics.median(of(a) / of(b) for a, b in zip(theirs, ours, strict=True))
