"""What a run is told: the options that decide its numbers."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass, fields
from typing import Literal

from fastnce._errors import not_negative, number

Loss = Literal["negative_sampling", "nce", "sampled_softmax"]
LOSSES = ("negative_sampling", "nce", "sampled_softmax")


@dataclass(frozen=True)
class Options:
    """Two runs on one thread with equal options and equal texts give equal vectors. Names and meaning are gensim's."""

    vector_size: int = 100
    alpha: float | None = None
    min_alpha: float = 1e-4
    window: int = 5
    min_count: int = 5
    sample: float = 1e-3
    negative: int = 5
    ns_exponent: float = 0.75
    epochs: int = 5
    loss: str = "negative_sampling"
    seed: int = 1

    def __post_init__(self) -> None:
        for name, least, most in (
            ("vector_size", 1, 1 << 16),
            ("window", 1, 1 << 10),
            ("min_count", 0, 1 << 62),
            ("negative", 1, 1 << 10),
            ("epochs", 1, 1 << 30),
            ("seed", 0, (1 << 63) - 1),
        ):
            object.__setattr__(self, name, integer(name, getattr(self, name), least, most))
        for name in ("min_alpha", "sample"):
            object.__setattr__(self, name, not_negative(getattr(self, name), name))
        object.__setattr__(self, "ns_exponent", number(self.ns_exponent, "ns_exponent"))
        if not math.isfinite(self.ns_exponent):
            raise ValueError(f"ns_exponent = {self.ns_exponent}: expected a finite number")
        largest = max(largest_alpha(self.negative, self.window), self.min_alpha)
        object.__setattr__(self, "alpha", largest if self.alpha is None else not_negative(self.alpha, "alpha"))
        if not self.min_alpha <= self.rate or self.rate == 0:
            raise ValueError(f"alpha = {self.alpha}: expected a number above 0, at least min_alpha = {self.min_alpha}")
        if self.loss not in LOSSES:
            raise ValueError(f"loss = {self.loss!r}: expected one of {', '.join(map(repr, LOSSES))}")

    @property
    def rate(self) -> float:
        """``alpha``, once the options are made."""
        assert self.alpha is not None
        return self.alpha

    def differences(self, other: Options) -> list[str]:
        """The options in which another run differs, as ``"window = 5, not 3"``."""
        pairs = [(field.name, getattr(self, field.name), getattr(other, field.name)) for field in fields(self)]
        return [f"{name} = {mine!r}, not {theirs!r}" for name, mine, theirs in pairs if mine != theirs]


def largest_alpha(negative: int, window: int) -> float:
    """0.05, or less where a position has more negatives than with 5 and a window of 5.

    A vector takes one step for all of them, of a weight of alpha * negative * (window + 1) on average. At 1.5 no
    run on a small text diverged, at 3 and above most did.
    """
    return min(0.05, 1.5 / (negative * (window + 1)))


def integer(name: str, value: object, least: int, most: int) -> int:
    """An argument as an int of this range."""
    try:
        count = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name} = {value!r}: expected an integer") from None
    if not least <= count <= most:
        raise ValueError(f"{name} = {count}: expected {least} to {most}")
    return count
