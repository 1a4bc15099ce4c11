"""Before anything is timed: all compute the same, given the same sample."""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client import FASTNCE, FASTNCE_SOFTMAX, WorkerClient
from shapes import NCE, SOFTMAX

# Largest relative difference from fastnce: of each loss, and of gradients against their largest element. A
# gradient is a sum of up to B terms, where the order of a float32 summation alone can make some 1e-5.
TOLERANCE = {"ids": 0.0, "loss": 1e-5, "dx": 1e-4, "dw": 1e-4, "db": 1e-4}
OURS = {NCE: FASTNCE, SOFTMAX: FASTNCE_SOFTMAX}
# Members with a lower precision are held to theirs: the Euclidean norm of the difference over that of the tensor, as
# docs/precision.md has it.
PROMISED = {"fastnce_high": 2e-5, "fastnce_medium": 1e-2}


def difference(actual: NDArray[Any], expected: NDArray[Any], *, elementwise: bool) -> float:
    """Largest relative difference: per element, or against the largest one where elements are sums."""
    if actual.shape != expected.shape:
        return float("inf")
    scale = np.abs(expected) if elementwise else np.abs(expected).max(initial=0.0)
    # An expected zero has to be met exactly; NaN on either side comes through.
    relative = np.abs(actual - expected) / np.maximum(scale, np.finfo(np.float32).tiny)
    return float(relative.max(initial=0.0))


def difference_in_norm(actual: NDArray[Any], expected: NDArray[Any]) -> float:
    """Euclidean norm of the difference over that of what is expected."""
    if actual.shape != expected.shape:
        return float("inf")
    expected = expected.astype(np.float64)
    return float(np.linalg.norm(actual - expected) / max(np.linalg.norm(expected), np.finfo(np.float32).tiny))


def _compare(name: str, theirs: dict[str, NDArray[Any]], ours: dict[str, NDArray[Any]]) -> dict[str, float]:
    differences = {
        key: difference_in_norm(theirs[key], ours[key])
        if name in PROMISED
        else difference(theirs[key], ours[key], elementwise=key in ("loss", "ids"))
        for key in ours
    }
    limits = dict.fromkeys(TOLERANCE, PROMISED[name]) | {"ids": 0.0} if name in PROMISED else TOLERANCE
    # Written so that NaN counts as a disagreement.
    if not all(differences[key] <= limit for key, limit in limits.items()):
        raise SystemExit(f"{name} and fastnce disagree, relative differences {differences}, allowed {limits}")
    return differences


def check_agreement(workers: dict[str, WorkerClient]) -> dict[str, dict[str, float]]:
    """Differences of each peer's results from fastnce's of the same loss for the prepared shape, with the same given
    candidates."""
    with tempfile.TemporaryDirectory() as folder:
        results = {}
        for name, worker in workers.items():
            path = f"{folder}/{name}.npz"
            if worker.ask("check", path=path):
                with np.load(path) as arrays:
                    results[name] = dict(arrays)
    ours = {loss: results.pop(name) for loss, name in OURS.items() if name in results}
    return {name: _compare(name, theirs, ours[workers[name].loss]) for name, theirs in results.items()}
