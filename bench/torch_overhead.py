"""What fastnce.torch costs beside the least that PyTorch's idiom can cost: one step, forward and backward.

    python bench/torch_overhead.py [--shape w2v] [--rounds 400] [--compiled]

The least is a bare ``autograd.Function`` around the NumPy function, without checks, reductions or a stream of samples,
that leaves the same coalesced sparse gradients. All take turns within each round; figures are medians, the ratio is the
median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import fastnce
import fastnce.torch

# V, D, B, S
SHAPES = {"w2v": (50_000, 128, 128, 64), "sgns": (100_000, 128, 1024, 1024)}


class Bare(torch.autograd.Function):
    """The mean of ``fastnce.nce_loss``, with gradients that were computed along with it."""

    @staticmethod
    def forward(ctx: Any, x: Any, target: Any, weight: Any, bias: Any, num_sampled: int) -> Any:
        loss, grads = fastnce.nce_loss_and_grad(
            weight.detach().numpy(),
            bias.detach().numpy(),
            target.numpy(),
            x.detach().numpy(),
            num_sampled,
            len(weight),
            grad_loss=np.float32(1 / len(x)),
        )
        ctx.save_for_backward(*map(torch.from_numpy, (grads.inputs, *grads.rows)))
        ctx.shapes = weight.shape, bias.shape
        return torch.as_tensor(loss.mean())

    @staticmethod
    def backward(ctx: Any, upstream: Any) -> Any:
        grad_inputs, ids, *tables = ctx.saved_tensors
        weight, bias = (
            torch.sparse_coo_tensor(ids[None], rows * upstream, shape, is_coalesced=True, check_invariants=False)
            for rows, shape in zip(tables, ctx.shapes, strict=True)
        )
        ctx.held = weight, bias  # autograd loses the flag of a sparse gradient without other references
        return grad_inputs * upstream, None, weight, bias, None


def steps_of(shape: str, compiled: bool) -> dict[str, Callable[[], None]]:
    num_classes, dim, batch, num_sampled = SHAPES[shape]
    torch.manual_seed(0)
    x = torch.randn(batch, dim, requires_grad=True)
    target = (torch.rand(batch).mul(np.log(num_classes)).exp() - 1).long()  # Zipfian
    criterion = fastnce.torch.NCELoss(num_classes, dim, num_sampled, seed=1)
    leaves = (x, criterion.weight, criterion.bias)
    table, bias = criterion.weight.detach().numpy(), criterion.bias.detach().numpy()

    def step(call: Callable[[], Any]) -> Callable[[], None]:
        def run() -> None:
            for leaf in leaves:
                leaf.grad = None
            call().backward()

        return run

    def numpy_function() -> None:
        grad_loss = np.float32(1 / batch)
        arrays = (table, bias, target.numpy(), x.detach().numpy())
        fastnce.nce_loss_and_grad(*arrays, num_sampled, num_classes, grad_loss=grad_loss)

    steps = {
        "numpy": numpy_function,
        "bare": step(lambda: Bare.apply(x, target, criterion.weight, criterion.bias, num_sampled)),
        "module": step(lambda: criterion(x, target)),
    }
    if compiled:
        graph = torch.compile(criterion, fullgraph=True)
        steps["compiled"] = step(lambda: graph(x, target))
    return steps


def measure(steps: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Microseconds of each step in each round; the order turns."""
    for step in steps.values():
        for _ in range(20):
            step()
    times: dict[str, list[float]] = {name: [] for name in steps}
    names = list(steps)
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            started = time.perf_counter()
            for _ in range(5):
                steps[name]()
            times[name].append((time.perf_counter() - started) / 5 * 1e6)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="w2v")
    parser.add_argument("--rounds", type=int, default=400)
    parser.add_argument("--compiled", action="store_true", help="also under torch.compile, by inductor")
    options = parser.parse_args()
    times = measure(steps_of(options.shape, options.compiled), options.rounds)
    bare = times["bare"]
    for name, series in times.items():
        ratio = statistics.median(one / other for one, other in zip(series, bare, strict=True))
        print(f"{name:10s} {statistics.median(series):7.0f} us   {ratio:.3f} times bare")


if __name__ == "__main__":
    main()
