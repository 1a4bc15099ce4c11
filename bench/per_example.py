"""Losses whose examples have negatives of their own, beside the rate at which rows can be gathered and beside PyTorch.

    python bench/per_example.py [--rounds 15] [--threads 2] [--dims 64 128] [--groups 4096]

In an environment with fastnce and torch. Each number is a median over rounds, in which all contenders have a turn;
ratios are medians of the ratios within a round, since other work on the machine changes absolute rates. The limit is
limits/gather.cpp: the same rows of the same table, prefetched and summed up in registers, nothing else.

PyTorch gathers the rows, multiplies with einsum, and differentiates; its gradient of the table is sparse, with or
without being coalesced.
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

import fastnce
from fastnce import _core

Call = Callable[[], Any]
B, S, V = 4096, 64, 2_000_000


def compile_gather(folder: Path) -> Any:
    source, library = Path(__file__).parent / "limits" / "gather.cpp", folder / "gather.so"
    options = ["-O3", "-march=native", "-fopenmp", "-shared", "-fPIC"]
    subprocess.run(["c++", *options, str(source), "-o", str(library)], check=True)
    function = ctypes.CDLL(str(library)).gather
    function.restype = ctypes.c_float
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int]
    return function


def zipf(rng: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
    """Log-uniform ids, which is Zipf's law to a good approximation."""
    return np.minimum(np.exp(rng.random(size) * np.log(V + 1)).astype(np.int64) - 1, V - 1)


class Problem:
    def __init__(self, D: int, G: int, ids: str, weights: np.ndarray, biases: np.ndarray) -> None:
        rng = np.random.default_rng(1)
        self.weights, self.biases = weights, biases
        self.inputs = rng.standard_normal((B, D), np.float32)
        self.labels = zipf(rng, (B,))
        self.samples = zipf(rng, (G, S)) if ids == "zipf" else rng.integers(V, size=(G, S))
        self.table = torch.from_numpy(self.weights).requires_grad_()
        self.bias_table = torch.from_numpy(self.biases[:, np.newaxis]).requires_grad_()

    def ours(self, gradients: tuple[bool, bool, bool], **options: Any) -> Call:
        fields = {
            "weights": self.weights,
            "biases": self.biases,
            "labels": self.labels,
            "inputs": self.inputs,
            "sampled_values": (self.samples, None, None),
            "true_target": "one",
            "gradients": gradients,
            **options,
        }
        return lambda: _core.compute_loss(fields)

    def torch(self, rows: bool, coalesce: bool) -> Call:
        G = len(self.samples)
        labels, samples = torch.from_numpy(self.labels), torch.from_numpy(self.samples)
        inputs = torch.from_numpy(self.inputs).requires_grad_()

        def call() -> None:
            inputs.grad = self.table.grad = self.bias_table.grad = None
            table, biases = (t if rows else t.detach() for t in (self.table, self.bias_table))
            w_true, w_sampled = F.embedding(labels, table, sparse=rows), F.embedding(samples, table, sparse=rows)
            c_true, c_sampled = F.embedding(labels, biases, sparse=rows), F.embedding(samples, biases, sparse=rows)
            u = torch.einsum("bd,bd->b", inputs, w_true) + c_true[:, 0]
            v = torch.einsum("gbd,gsd->gbs", inputs.view(G, B // G, -1), w_sampled) + c_sampled.view(G, 1, S)
            (F.softplus(-u).sum() + F.softplus(v).sum()).backward()
            if coalesce:
                assert self.table.grad is not None and self.bias_table.grad is not None
                self.table.grad.coalesce(), self.bias_table.grad.coalesce()

        return call


def seconds(call: Call) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def rounds_of(calls: dict[str, Call], rounds: int) -> dict[str, list[float]]:
    for call in calls.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(seconds(call))
    return times


def ratio(times: dict[str, list[float]], over: str, under: str) -> float:
    return statistics.median(a / b for a, b in zip(times[over], times[under], strict=True))


def report(D: int, G: int, ids: str, problem: Problem, gather: Any, arguments: argparse.Namespace) -> None:
    rng = np.random.default_rng(2)
    flat = np.ascontiguousarray(problem.samples.ravel())
    pointers = (problem.weights.ctypes.data, flat.ctypes.data, flat.size, D, arguments.threads)
    hundred = fastnce.Ragged(rng.integers(V, size=B * 200), np.arange(B + 1) * 200)
    one = fastnce.Ragged(rng.integers(V, size=B), np.arange(B + 1))
    lists = lambda ragged: {"exclude": ragged.values, "exclude_offsets": ragged.offsets}  # noqa: E731
    calls: dict[str, Call] = {
        "gather": lambda: gather(*pointers),
        "loss + dX": problem.ours((True, False, False)),
        "loss + dX, no biases": problem.ours((True, False, False), biases=None),
        "softmax + dX": problem.ours((True, False, False), family="softmax"),
        "hits removed": problem.ours((True, False, False), remove_accidental_hits=True),
        "1 excluded": problem.ours((True, False, False), **lists(one)),
        "200 excluded": problem.ours((True, False, False), **lists(hundred)),
        "all": problem.ours((True, True, True)),
    }
    if arguments.torch:
        calls |= {
            "torch: loss + dX": problem.torch(False, False),
            "torch: all, not coalesced": problem.torch(True, False),
            "torch: all": problem.torch(True, True),
        }
    times = rounds_of(calls, arguments.rounds)
    rows = len(np.unique(np.concatenate([flat, problem.labels])))
    read = flat.size + B
    rate = {name: 4e-9 * D * (read + (rows if "all" in name else 0)) / statistics.median(times[name]) for name in calls}
    rate["gather"] = 4e-9 * D * flat.size / statistics.median(times["gather"])
    print(f"\nB {B}, S {S}, D {D}, V {V:,}, G {G}, {ids} ids, {rows:,} rows, {arguments.threads} thread(s)\n")
    print("| | ms | GB/s | of the gather | of torch: all |")
    print("|---|---|---|---|---|")
    for name, own in times.items():
        share = ratio(times, "gather", name) * read / flat.size
        against = f"{ratio(times, 'torch: all', name):.1f}" if arguments.torch else ""
        print(
            f"| {name} | {1e3 * statistics.median(own):.2f} | {rate[name]:.1f} | {share:.2f} | {against} |", flush=True
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dims", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--groups", type=int, nargs="+", default=[B])
    parser.add_argument("--ids", nargs="+", default=["uniform", "zipf"])
    parser.add_argument("--no-torch", dest="torch", action="store_false")
    arguments = parser.parse_args()
    fastnce.set_num_threads(arguments.threads)
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        gather = compile_gather(Path(folder))
        for D in arguments.dims:
            rng = np.random.default_rng(0)
            weights = rng.standard_normal((V, D), np.float32) * np.float32(D**-0.5)
            biases = rng.standard_normal(V, np.float32)
            for G in arguments.groups:
                for ids in arguments.ids:
                    report(D, G, ids, Problem(D, G, ids, weights, biases), gather, arguments)


if __name__ == "__main__":
    main()
