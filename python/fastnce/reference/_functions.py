"""Functions of logits."""

from __future__ import annotations

import numpy as np

from fastnce.reference._targets import Floats


def softplus(logit: Floats) -> Floats:
    """``log(1 + exp(logit))`` without overflow."""
    return np.logaddexp(0.0, logit)


def sigmoid(logit: Floats) -> Floats:
    """``1 / (1 + exp(-logit))`` without overflow."""
    return np.exp(-softplus(-logit))


def softmax(logits: Floats) -> tuple[Floats, Floats]:
    """Probabilities of each row, and the log of their denominator ``[B, 1]``; NaN and -inf where all logits are -inf.

    Exponentials are relative to the largest logit.
    """
    largest = logits.max(axis=1, keepdims=True, initial=-np.inf)
    exponentials = np.exp(logits - np.where(largest == -np.inf, 0.0, largest))
    total = exponentials.sum(axis=1, keepdims=True)
    return exponentials / total, largest + np.log(total)
