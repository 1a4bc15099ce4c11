"""What goes over all V classes beside PyTorch, as a Markdown table of slowdowns relative to fastnce.

    python bench/all_classes.py [--rounds 7] [--threads 2] [--dims 64 256]

In an environment with fastnce and torch 2.13. PyTorch multiplies matrices and then takes the best scores, compares
them with the label's, or computes the cross entropy; in parts of the batch where its [B, V] matrix would be larger than
1 GiB. Float32 at full precision, Zipfian labels, gradients of inputs and both tables, dense. In each round all
contenders have a turn; a slowdown is the median over rounds of the ratio of a round's times.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

import fastnce

CLASSES, BATCHES = (50_000, 400_000), (256, 2048)
BEST = 10
LARGEST = 1 << 28
"""Logits that PyTorch has in memory at a time."""

Call = Callable[[], Any]


class Problem:
    """Tables, inputs and labels, for both libraries in the same memory."""

    def __init__(self, batch: int, classes: int, dim: int) -> None:
        rng = np.random.default_rng(0)
        self.weights = 0.1 * rng.standard_normal((classes, dim), np.float32)
        self.biases = 0.1 * rng.standard_normal(classes, np.float32)
        self.inputs = rng.standard_normal((batch, dim), np.float32)
        self.labels = (classes ** rng.random(batch)).astype(np.int64) - 1
        self.out = np.zeros_like(self.weights), np.zeros_like(self.biases)
        arrays = (self.weights, self.biases, self.inputs)
        self.w, self.c, self.x = (torch.from_numpy(array).requires_grad_() for array in arrays)
        self.y = torch.from_numpy(self.labels)
        self.part = max(LARGEST // classes, 1)

    def in_parts(self, work: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """``work(logits, labels)`` of parts of the batch, joined."""
        parts = zip(self.x.split(self.part), self.y.split(self.part), strict=True)
        return torch.cat([work(torch.addmm(self.c, x, self.w.T), y) for x, y in parts])

    @torch.no_grad()
    def torch_top_k(self) -> torch.Tensor:
        return self.in_parts(lambda v, _: v.topk(BEST).values)

    @torch.no_grad()
    def torch_ranks(self) -> torch.Tensor:
        def ranks(v: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            own = v.gather(1, y[:, None])
            return 1 + (v > own).sum(1) + ((v == own).sum(1) - 1) / 2

        return self.in_parts(ranks)

    @torch.no_grad()
    def torch_softmax(self) -> torch.Tensor:
        return self.in_parts(lambda v, y: cross_entropy(v, y, reduction="none"))

    def torch_gradients(self, loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """Each part's graph is freed before the next is made."""
        self.w.grad = self.c.grad = self.x.grad = None

        def backward(v: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            losses = loss(v, y)
            losses.sum().backward()
            return losses.detach()

        return self.in_parts(backward)

    def contenders(self) -> dict[str, tuple[Call, Call]]:
        """fastnce's call and PyTorch's, both of which return scores, ranks or losses."""
        tables, labels, x = (self.weights, self.biases), self.labels, self.inputs

        def sigmoid(v: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            targets = torch.zeros_like(v).scatter_(1, y[:, None], 1.0)
            return binary_cross_entropy_with_logits(v, targets, reduction="none").sum(1)

        def softmax(v: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return cross_entropy(v, y, reduction="none")

        return {
            f"top_k, k = {BEST}": (lambda: fastnce.top_k(*tables, x, BEST)[0], self.torch_top_k),
            "rank_of_labels": (lambda: fastnce.rank_of_labels(*tables, labels, x), self.torch_ranks),
            "softmax_loss": (lambda: fastnce.softmax_loss(*tables, labels, x), self.torch_softmax),
            "softmax_loss_and_grad": (
                lambda: fastnce.softmax_loss_and_grad(*tables, labels, x, out=self.out)[0],
                lambda: self.torch_gradients(softmax),
            ),
            "sigmoid_loss_and_grad": (
                lambda: fastnce.sigmoid_loss_and_grad(*tables, labels, x, out=self.out)[0],
                lambda: self.torch_gradients(sigmoid),
            ),
        }


def seconds(call: Call) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def compare(ours: Call, theirs: Call, rounds: int) -> tuple[float, float]:
    """fastnce's milliseconds and PyTorch's slowdown; first, that both compute the same."""
    np.testing.assert_allclose(ours(), theirs().numpy(), rtol=1e-3, atol=0.5)  # ranks: of scores that round differently
    turns = [(seconds(ours), seconds(theirs)) for _ in range(rounds)]
    return 1e3 * statistics.median(own for own, _ in turns), statistics.median(other / own for own, other in turns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dims", type=int, nargs="+", default=[64, 256])
    arguments = parser.parse_args()
    fastnce.set_num_threads(arguments.threads)
    torch.set_num_threads(arguments.threads)
    print(f"{arguments.threads} threads, medians of {arguments.rounds} rounds; torch {torch.__version__}, ", end="")
    print(f"instruction set {fastnce.config()['isa']}\n")
    print("| call | V | D | B | fastnce, ms | PyTorch, times as long |")
    print("|---|---|---|---|---|---|")
    for classes, dim, batch in itertools.product(CLASSES, arguments.dims, BATCHES):
        problem = Problem(batch, classes, dim)
        for name, (ours, theirs) in problem.contenders().items():
            own, slowdown = compare(ours, theirs, arguments.rounds)
            print(f"| {name} | {classes:,} | {dim} | {batch:,} | {own:.0f} | {slowdown:.2f} |", flush=True)


if __name__ == "__main__":
    main()
