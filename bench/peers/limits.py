"""What the machine can do at best, from the native program `fastnce_limits` (bench/limits/)."""

from __future__ import annotations

import json
import statistics
import subprocess
from pathlib import Path

PROGRAM = Path(__file__).resolve().parents[2] / "build" / "release" / "bench" / "fastnce_limits"

Limits = dict[str, float]


def measure_limits(threads: int) -> Limits:
    """One run, some seconds. Raises OSError where the program has not been built."""
    finished = subprocess.run([PROGRAM, str(threads)], capture_output=True, check=True, text=True)
    return json.loads(finished.stdout)


def medians(runs: list[Limits]) -> Limits:
    return {name: statistics.median(run[name] for run in runs) for name in (runs[0] if runs else {})}


def fma_peak(limits: Limits, isa: str) -> float | None:
    """Of the widest vectors that fastnce computes float32 with on that instruction set."""
    return limits.get("fma_avx2_gflops" if isa == "avx2" else "fma_avx512_gflops")
