"""The table of losses: one row for each member of the family, and what distinguishes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

import fastnce
from fastnce import reference

Options = dict[str, Any]


@dataclass(frozen=True)
class Loss:
    """A member of the family: how to call it in the library and in the reference, and what it is a case of."""

    name: str
    """In the ids of tests."""
    function: str
    """Public name; gradients come from the one with ``_and_grad`` appended."""
    family: str
    true_target: str
    removes_hits: bool
    """Whether it does by default."""
    takes_counts: bool = True
    """Whether it takes ``sampled_values`` with ``num_sampled`` and ``num_classes``, or ``sampled_candidates`` alone."""
    options: Callable[[int, int, int], Options] = lambda batch, sampled, classes: {}
    """What both are given on top, for B examples, S sampled classes of V."""
    sets: Callable[[int, int, int], Options] = lambda batch, sampled, classes: {}
    """What the function itself gives to the family, likewise."""

    def __str__(self) -> str:
        return self.name

    def library(self, module: ModuleType = fastnce, suffix: str = "_and_grad") -> Callable[..., Any]:
        return getattr(module, self.function + suffix)

    @property
    def twin(self) -> Callable[..., Any]:
        return getattr(reference, self.function + "_and_grad")


def _per_example(batch: int, sampled: int, classes: int) -> Options:
    rng = np.random.default_rng(batch)
    return {f"{sign}_weight": rng.uniform(0.2, 3.0, batch).astype(np.float32) for sign in ("positive", "negative")}


def _gbce(batch: int, sampled: int, classes: int) -> Options:
    return {"positive_weight": reference.gbce_weight(max(sampled, 1), classes, 0.75)}


_PUBLISHED: Options = {"true_target": "one"}
_ROWS = (
    Loss("nce", "nce_loss", "logistic", "mean", False),
    Loss("nce_one", "nce_loss", "logistic", "one", False, options=lambda *sizes: _PUBLISHED),
    Loss("softmax", "sampled_softmax_loss", "softmax", "mean", True),
    Loss("softmax_one", "sampled_softmax_loss", "softmax", "one", True, options=lambda *sizes: _PUBLISHED),
    Loss("negative_sampling", "negative_sampling_loss", "logistic", "one", False, False),
    Loss("weighted", "negative_sampling_loss", "logistic", "one", False, False, _per_example),
    Loss("gbce", "negative_sampling_loss", "logistic", "one", False, False, _gbce),
)
LOSSES = {loss.name: loss for loss in _ROWS}
NCE = LOSSES["nce"]
EVERY_LOSS = list(LOSSES.values())
