"""What an adapter provides, and the lines that orchestrator and workers exchange.

A worker writes one JSON object per line to its standard output: a greeting, then one answer per request that
it reads from its standard input. An answer is {"result": ...} or {"error": traceback}. A request is
{"command": name, ...arguments}, where a shape is given as the fields of `shapes.Shape`; the commands:

    prepare shape={...}   build the problem, warm up -> seconds of a warm call, mean loss with own sampling;
                          loss=NAME for another than nce_loss, here and in memory
    check path=FILE       write `Outputs` for the shape's fixed candidates to FILE (.npz) -> whether any
    time calls=N          N timed calls after an untimed one -> seconds of each
    memory shape={...}    extra peak memory of one call, for a fresh worker (see memory.py)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np

from shapes import Candidates, Case, Floats, Ids


class Outputs(NamedTuple):
    """What one call computes, in NumPy: loss [B], dx [B, D], and n rows with ids ascending and unique."""

    loss: Floats
    dx: Floats
    ids: Ids
    dw: Floats
    db: Floats


class Adapter(ABC):
    """One library under test. `step` is what gets timed; everything else may take its time.

    Where a library has several ways to go, their common adapter takes the name of one as a second argument.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads

    @abstractmethod
    def versions(self) -> dict[str, Any]:
        """Versions and build facts worth recording next to the figures."""

    @abstractmethod
    def prepare(self, case: Case) -> None:
        """Take over the case's inputs in the library's own kind of array."""

    @abstractmethod
    def step(self, batch: int, candidates: Candidates | None = None) -> Any:
        """Loss, dX and row gradients of one batch, complete on return; samples unless given `candidates`."""

    def outputs(self, result: Any) -> Outputs | None:
        """What `step` returned, in NumPy; None from a limit that computes no loss."""
        return None


def coalesce(ids: Ids, values: Floats) -> tuple[Ids, Floats]:
    """Sum the rows of equal ids: ids ascending and unique, and their values."""
    unique, inverse = np.unique(ids, return_inverse=True)
    sums = np.zeros((len(unique), *values.shape[1:]), values.dtype)
    np.add.at(sums, inverse, values)
    return unique, sums
