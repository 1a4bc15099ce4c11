"""A map of word vectors in two dimensions: principal components, then labels pushed apart."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnce.word2vec._files import replacing
from fastnce.word2vec._vectors import KeyedVectors

Doubles = npt.NDArray[np.float64]

_NEIGHBOURS = 5
_WIDTH, _HEIGHT = 10.0, 8.0
"""Inches."""
_LETTER, _LINE = 0.085, 0.15
"""Inches of a letter and a line of a label."""


def require(path: str | os.PathLike[str]) -> None:
    """Raise ``ImportError`` unless there is Matplotlib, and ``ValueError`` unless it writes files of this name."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("a map needs the package Matplotlib: pip install matplotlib") from None
    kinds = Figure().canvas.get_supported_filetypes()
    if _kind(path) not in kinds:
        raise ValueError(f"{path}: the name says no format of images: expected one that ends in {', '.join(kinds)}")


def _kind(path: str | os.PathLike[str]) -> str:
    """The format that a file's name says."""
    return os.path.splitext(path)[1].lstrip(".").lower() or "png"


def mapped_words(vectors: KeyedVectors, count: int) -> list[Any]:
    """Frequent words, without the first hundred, most of which are function words."""
    first = min(100, max(len(vectors) - count, 0))
    return list(vectors.index_to_key[first : first + count])


def plot_map(path: str | os.PathLike[str], vectors: KeyedVectors, words: Sequence[Any]) -> None:
    """Draw a map of words and their five nearest neighbours, each group in one colour; needs Matplotlib.

    The plane is that in which their unit vectors spread most. Labels that would cover each other are pushed apart.
    """
    require(path)
    from matplotlib.figure import Figure  # without pyplot: no display is needed

    groups = [[word, *(near for near, _ in vectors.most_similar(word, topn=_NEIGHBOURS))] for word in words]
    colour_of = {word: colour for colour, group in reversed(list(enumerate(groups))) for word in group}
    shown = list(colour_of)
    rows = [vectors.get_index(word) for word in shown]
    plane = spread(principal_plane(vectors.unit_vectors()[rows]), [str(word) for word in shown])
    figure = Figure(figsize=(_WIDTH, _HEIGHT), layout="constrained")
    axes = figure.subplots()
    axes.set(title="Word vectors: principal components, labels pushed apart", xticks=[], yticks=[])
    axes.set(xlim=(plane[:, 0].min() - 0.5, plane[:, 0].max() + 0.5))
    axes.set(ylim=(plane[:, 1].min() - 0.3, plane[:, 1].max() + 0.3))
    for word, (x, y) in zip(shown, plane, strict=True):
        label = axes.text(x, y, str(word), fontsize=8, ha="center", va="center", parse_math=False)
        label.set(color=f"C{colour_of[word] % 10}", weight="bold" if word in words else "normal")
    with replacing(path) as file:
        figure.savefig(file, dpi=150, format=_kind(path))


def principal_plane(unit: npt.NDArray[np.float32]) -> Doubles:
    """The plane in which unit vectors ``[n, D]`` spread most, as coordinates ``[n, 2]``."""
    left, scales, _ = np.linalg.svd((unit - unit.mean(axis=0)).astype(np.float64), full_matrices=False)
    plane = np.zeros((len(unit), 2))
    axes = min(2, len(scales))
    plane[:, :axes] = left[:, :axes] * scales[:axes]
    return plane


def spread(plane: Doubles, labels: Sequence[str]) -> Doubles:
    """Scale points to the page, in inches, and push labels apart that cover each other."""
    extent = np.ptp(plane, axis=0)
    place: Doubles = (plane - plane.min(axis=0)) / np.where(extent > 0, extent, 1) * (_WIDTH, _HEIGHT)
    half = np.array([(_LETTER * (len(label) + 1), _LINE) for label in labels]) / 2
    least = half[:, None] + half
    for _ in range(1000):
        apart = place[:, None] - place
        overlap = least - np.abs(apart)
        covered: npt.NDArray[np.bool] = np.all(overlap > 0, axis=2)
        np.fill_diagonal(covered, False)
        if not covered.any():
            break
        # Along the axis that needs the shorter way, half of it each; of two at one place the first goes up.
        upright = overlap[..., 1] < overlap[..., 0]
        order = np.sign(np.subtract.outer(np.arange(len(place)), np.arange(len(place))))
        push = np.where(apart != 0, np.sign(apart), order[..., None]) * overlap / 2 * covered[..., None]
        push *= np.stack([~upright, upright], axis=2)
        place += 0.5 * push.sum(axis=1)
    return place
