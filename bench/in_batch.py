"""The in-batch softmax beside the same in PyTorch, eager and compiled: loss and gradients of both towers.

    python bench/in_batch.py [--rounds 15] [--threads 2] [--dims 64 128]

In an environment with fastnce and torch. All mask what has the id of an example's own item, and correct by log Q. Each
number is a median over rounds, in which all have a turn; ratios are medians of the ratios within a round.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from per_example import Call, ratio, rounds_of
from torch import Tensor

import fastnce
import fastnce.torch

BATCH, ITEMS, TEMPERATURE = 4096, 20_000, 0.05
Loss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def ours(users: Tensor, items: Tensor, ids: Tensor, log_q: Tensor) -> Tensor:
    return fastnce.torch.in_batch_softmax_loss(users, items, ids, log_q=log_q, temperature=TEMPERATURE)


def of_pytorch(users: Tensor, items: Tensor, ids: Tensor, log_q: Tensor) -> Tensor:
    logits = users @ items.T / TEMPERATURE - log_q
    others = (ids[:, None] == ids) & ~torch.eye(len(ids), dtype=torch.bool)
    return F.cross_entropy(logits.masked_fill(others, -torch.inf), torch.arange(len(ids)))


def call_of(loss: Loss, tensors: tuple[Tensor, ...]) -> Call:
    users, items, *rest = tensors

    def call() -> None:
        users.grad = items.grad = None
        loss(users, items, *rest).backward()

    return call


def report(dim: int, arguments: argparse.Namespace) -> None:
    rng = np.random.default_rng(1)
    ids = torch.from_numpy(np.minimum(rng.zipf(1.3, BATCH), ITEMS) - 1)
    log_q = torch.bincount(ids, minlength=ITEMS)[ids].float().log()
    users, items = (torch.nn.functional.normalize(torch.randn(BATCH, dim)).requires_grad_() for _ in range(2))
    tensors = (users, items, ids, log_q)
    losses: dict[str, Loss] = {"fastnce": ours, "PyTorch": of_pytorch, "compiled": torch.compile(of_pytorch)}
    found = {name: loss(*tensors).item() for name, loss in losses.items()}
    assert max(found.values()) - min(found.values()) < 1e-4 * found["PyTorch"], found
    times = rounds_of({name: call_of(loss, tensors) for name, loss in losses.items()}, arguments.rounds)
    cells = [f"{1e3 * np.median(own):.1f}" for own in times.values()]
    ratios = [f"{ratio(times, name, 'fastnce'):.1f}" for name in ("PyTorch", "compiled")]
    print(f"| {dim} | {' | '.join(cells + ratios)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dims", type=int, nargs="+", default=[64, 128])
    arguments = parser.parse_args()
    fastnce.set_num_threads(arguments.threads)
    torch.set_num_threads(arguments.threads)
    print(f"B {BATCH:,}, {arguments.threads} thread(s), milliseconds\n")
    print("| D | fastnce | PyTorch | compiled | PyTorch / fastnce | compiled / fastnce |")
    print("|---|---|---|---|---|---|")
    for dim in arguments.dims:
        report(dim, arguments)


if __name__ == "__main__":
    main()
