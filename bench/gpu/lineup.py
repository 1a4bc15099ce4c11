"""The contenders, by name and in the order of the tables."""

from __future__ import annotations

from collections.abc import Callable

from baselines_autograd import Compiled, CompiledLoss, Eager, EagerLoss
from baselines_by_hand import Chunked, Whole
from baselines_limits import Products
from contender import LEVELS, Contender
from graphs import Captured
from problems import Problem

try:
    import contenders_fastnce as ours

    FASTNCE_MISSING = ""
except Exception as error:  # a benchmark of all others is still worth having
    FASTNCE_MISSING = f"fastnce cannot be imported: {error}"

Make = Callable[[Problem], Contender]


def _make(kind: type[Contender], level: str) -> Make:
    return lambda problem: kind(problem, LEVELS[level])


def _captured(kind: type[Contender], level: str) -> Make:
    return lambda problem: Captured(kind(problem, LEVELS[level]))


def lineup(*, cuda: bool, compiled: bool) -> dict[str, tuple[str, Make]]:
    """Name: key of the level and constructor. Captured ones come last: a capture that fails may take the rest along."""
    found: dict[str, tuple[str, Make]] = {}
    late: dict[str, tuple[str, Make]] = {}

    def add(kind: type[Contender], level: str) -> None:
        found[f"{kind.kind} {level}"] = (level, _make(kind, level))
        if cuda and kind.capturable and kind is not Products:
            late[f"{kind.kind} graph {level}"] = (level, _captured(kind, level))

    if not FASTNCE_MISSING:
        for level in LEVELS:
            add(ours.Padded, level)
            add(ours.Fastnce, level)
            add(ours.Loss, level)
    kinds: list[type[Contender]] = [Eager, Chunked, EagerLoss]
    if compiled:
        kinds += [Compiled, Whole, CompiledLoss]
    for key, level in LEVELS.items():
        if level.torch is not None:
            for kind in kinds:
                # One compilation fewer: without gradients, too, bare float32 is nobody's fastest way.
                if not (kind is CompiledLoss and key == "f32 highest"):
                    add(kind, key)
            add(Products, key)
    return {**found, **late}


def reference(level: str, names: list[str], *, gradients: bool) -> str | None:
    """Whom the others of a level are compared with: fastnce."""
    kinds = ("fastnce", "fastnce wait") if gradients else ("fastnce loss",)
    return next((name for kind in kinds if (name := f"{kind} {level}") in names), None)


def floor(level: str, names: list[str]) -> str | None:
    """The bare products of a level."""
    name = f"{Products.kind} {LEVELS[level].products}"
    return name if name in names else None
