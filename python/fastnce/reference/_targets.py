"""Labels and lists of classes, however they are given, as arrays ``[B, T]`` and ``[B, S]``."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnce._types import Ragged

Floats: TypeAlias = NDArray[np.float64]
Ids: TypeAlias = NDArray[np.int64]
Flags: TypeAlias = NDArray[np.bool_]
Lists: TypeAlias = Ragged[ArrayLike]
"""One list of classes for each example."""
Labels: TypeAlias = ArrayLike | Lists
"""``[B]``, ``[B, T]``, or lists."""


class TargetOptions(TypedDict, total=False):
    """Options of every loss with labels."""

    true_target: Literal["mean", "one"]
    label_weights: ArrayLike | None
    exclude: Lists | None
    padding: int | None
    partition_strategy: str
    grad_loss: ArrayLike | None


class Targets:
    """Labels as a matrix ``[B, T]``, T the largest number that an example has.

    ``entries`` tells where a list has an entry (everywhere, unless it is Ragged), ``is_true`` which of those are no
    padding. Whatever else stands in the matrices means nothing. ``remaining`` and ``has_labels`` are ``[B, 1]``.
    """

    def __init__(self, labels: Labels, padding: int | None) -> None:
        if isinstance(labels, Ragged):
            values, offsets = (np.asarray(array, np.int64) for array in labels)
            lengths = np.diff(offsets)
            self.entries: Flags = np.arange(lengths.max(initial=0)) < lengths[:, np.newaxis]
        else:
            values = np.asarray(labels, np.int64)
            self.entries = np.full(values.shape if values.ndim == 2 else (len(values), 1), True)
        self.is_ragged = isinstance(labels, Ragged)
        self.shape = values.shape
        self.ids: Ids = self.spread(values)
        self.is_true: Flags = self.entries if padding is None else self.entries & (self.ids != padding)
        self.remaining: Ids = self.is_true.sum(axis=1, keepdims=True)
        # Labels [B, 0] are TensorFlow's: a batch of negatives alone. A list that is empty is like one of padding.
        self.has_labels: Flags = (self.remaining > 0) | (not self.is_ragged and self.ids.shape[1] == 0)

    def spread(self, values: ArrayLike) -> NDArray[Any]:
        """What belongs to labels, as ``[B, T]``: given in their shape, or as ``[B, 1]`` or one number for all."""
        array = np.asarray(values)
        if not self.is_ragged and array.ndim == 1 and len(array) == len(self.entries) and self.entries.shape[1] == 1:
            array = array[:, np.newaxis]
        matrix = np.zeros(self.entries.shape, array.dtype)
        shape = (int(self.entries.sum()),) if self.is_ragged else self.entries.shape
        matrix[self.entries] = np.broadcast_to(array, shape).ravel()
        return matrix

    def in_shape_of_labels(self, matrix: Floats) -> Floats:
        """The inverse of :meth:`spread`: ``[B]``, ``[B, T]`` or, where labels are lists, ``[n]``."""
        return matrix[self.entries].reshape(self.shape)

    def are_labels(self, candidates: Ids) -> Flags:
        """Which of the candidates ``[B, S]`` are among the labels of their example."""
        pairs = (self.ids[:, :, np.newaxis] == candidates[:, np.newaxis]) & self.is_true[:, :, np.newaxis]
        return np.asarray(pairs.any(axis=1))

    def shares(self, true_target: str, label_weights: ArrayLike | None) -> tuple[Floats, Floats]:
        """r ``[B, 1]``, the target of each label, and w ``[B, T]``, the weight of each; 0 for what is no label."""
        r = 1.0 / np.maximum(self.remaining, 1) if true_target == "mean" else np.ones(self.remaining.shape)
        w = self.spread(np.asarray(1.0 if label_weights is None else label_weights, np.float64))
        return r, np.where(self.is_true, w, 0.0)


def list_of(lists: Lists, b: int) -> Ids:
    """The list of example b."""
    values, offsets = (np.asarray(array, np.int64) for array in lists)
    return values[offsets[b] : offsets[b + 1]]


def are_listed(candidates: Ids, lists: Lists | None) -> Flags:
    """Which of the candidates ``[B, S]`` are in the list of their example."""
    flags = np.full(candidates.shape, False)
    if lists is not None:
        for b in range(len(candidates)):
            flags[b] = np.isin(candidates[b], list_of(lists, b))
    return flags


def per_example(value: ArrayLike | None, batch: int) -> Floats:
    """A number (1 for ``None``) or ``[B]``, as ``[B, 1]``."""
    return np.broadcast_to(np.asarray(1.0 if value is None else value, np.float64), (batch,))[:, np.newaxis]
