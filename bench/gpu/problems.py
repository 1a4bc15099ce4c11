"""The problems that are measured: named shapes, and their tensors on the device.

Letters as in bench/peers/shapes.py: B examples, D width, V classes, T true classes per example, S sampled classes.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

sys.path.append(str(Path(__file__).resolve().parents[1] / "peers"))
from shapes import SEED, SHAPES, Shape, log_uniform, log_uniform_probability, unique_log_uniform

NAMED = {
    **SHAPES,
    "big": Shape(V=800_000, D=1_024, B=2_560, T=1, S=8_192),
    "batch": Shape(V=800_000, D=256, B=32_768, T=1, S=8_192),
}
# Steps go round so many batches: none finds its own labels and inputs where the last step left them.
BATCHES = 8


def named(quick: bool) -> dict[str, Shape]:
    """All shapes; `quick`: the same ones shrunk, with odd sizes, to run the whole thing through on any machine."""
    if not quick:
        return NAMED
    return {
        name: replace(shape, V=shape.V // 500, D=min(33, shape.D), B=min(65, shape.B), S=min(48, shape.S))
        for name, shape in NAMED.items()
    }


class Candidates(NamedTuple):
    """Sampled ids [S], expected counts of the true classes [B, T] and of the sampled ones [S]: fastnce's order."""

    ids: Tensor
    true_counts: Tensor
    sampled_counts: Tensor


class Batch(NamedTuple):
    """labels [B, T], inputs [B, D]."""

    labels: Tensor
    inputs: Tensor


class Problem:
    """One shape with tables and inputs of one dtype; biases are float32 always."""

    def __init__(self, shape: Shape, dtype: torch.dtype, device: torch.device) -> None:
        self.shape, self.dtype, self.device = shape, dtype, device
        rng = np.random.default_rng(SEED)
        generator = torch.Generator(device).manual_seed(SEED)

        def uniform(size: tuple[int, ...], bound: float) -> Tensor:
            return torch.empty(size, device=device).uniform_(-bound, bound, generator=generator)

        # Scaled for logits of standard deviation one.
        self.weights = uniform((shape.V, shape.D), 3.0 / shape.D**0.5).to(dtype)
        self.biases = uniform((shape.V,), 0.5)
        self.batches = [
            Batch(
                torch.from_numpy(log_uniform(rng, shape.V, shape.B * shape.T).reshape(shape.B, shape.T)).to(device),
                uniform((shape.B, shape.D), 1.0).to(dtype),
            )
            for _ in range(BATCHES)
        ]

    def candidates(self) -> Candidates:
        """A fixed unique log-uniform sample and its expected counts, for batch 0: what results are checked with."""
        V, S = self.shape.V, self.shape.S
        ids, tries = unique_log_uniform(np.random.default_rng(SEED + 2), V, S)

        def counts(k: np.ndarray) -> Tensor:
            p = log_uniform_probability(k, V)
            expected = S * p if tries == S else -np.expm1(tries * np.log1p(-p))
            return torch.from_numpy(expected.astype(np.float32)).to(self.device)

        labels = self.batches[0].labels.cpu().numpy()
        return Candidates(torch.from_numpy(ids).to(self.device), counts(labels), counts(ids))
