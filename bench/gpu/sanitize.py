"""A small program to run under compute-sanitizer: fastnce on usual and on odd sizes, all precisions, both dtypes.

    compute-sanitizer --tool memcheck --error-exitcode 9 python bench/gpu/sanitize.py

Inputs are made on the host, so that next to no kernels but fastnce's run. Set PYTORCH_NO_CUDA_MEMORY_CACHING=1, so that
each tensor is an allocation of its own, whose ends are watched.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
import torch

import fastnce

# V, D, B, T, S
SIZES = (
    (5_000, 128, 128, 1, 64),
    (997, 33, 65, 3, 47),
    (10, 1, 1, 1, 1),
    (5_000, 200, 130, 1, 257),
    (3_000, 64, 257, 2, 1_025),
)


def run(device: torch.device, size: tuple[int, ...], precision: str, dtype: torch.dtype, padded: bool) -> None:
    V, D, B, T, S = size
    rng = np.random.default_rng(5)

    def uniform(*shape: int) -> torch.Tensor:
        return torch.from_numpy(rng.uniform(-0.5, 0.5, shape).astype(np.float32))

    weights, inputs = (uniform(*shape).to(dtype).to(device) for shape in ((V, D), (B, D)))
    biases, labels = uniform(V).to(device), torch.from_numpy(rng.integers(0, V, (B, T))).to(device)
    more = {"pad_rows": True} if padded else {}
    arrays = weights, biases, labels, inputs, S, V, T
    loss, grads = fastnce.nce_loss_and_grad(
        *arrays, remove_accidental_hits=padded, seed=(1, 2), precision=precision, **more
    )
    alone = fastnce.nce_loss(*arrays, remove_accidental_hits=padded, seed=(1, 2), precision=precision)
    # On the host: what is looked at is not to start kernels either.
    results = [tensor.cpu() for tensor in (loss, alone, grads.inputs)]
    if not all(bool(tensor.isfinite().all()) for tensor in results):
        sys.exit(f"not finite: {size}, {precision}, {dtype}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--seconds", type=float, default=40.0, help="start nothing new after so long")
    options = parser.parse_args()
    start, done = time.monotonic(), 0
    for size in SIZES:
        for precision in ("highest", "high", "medium"):
            for dtype in (torch.float32, torch.bfloat16):
                if time.monotonic() - start < options.seconds:
                    run(torch.device(options.device), size, precision, dtype, dtype == torch.float32)
                    done += 1
    print(f"sanitize: {done} of {len(SIZES) * 6} calls made", flush=True)


if __name__ == "__main__":
    main()
