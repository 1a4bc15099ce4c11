"""Sampling alone: ids against the CPU's bit for bit, the loss's own sampling against the sampler's, and times.

python bench/gpu/sampling.py --output sampling.json
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import command_line
import fastnce
from check import error
from problems import Problem, Shape
from sampling_pytorch import Sampler
from timing import Clock, rounds, summary

# V, S, unique; nearly all classes of a small table, too.
DRAWS = (
    (50_000, 64, True),
    (50_000, 8_192, True),
    (800_000, 8_192, True),
    (2_000_000, 4_096, True),
    (1 << 40, 1_000, True),
    (1_000, 990, True),
    (800_000, 8_192, False),
)
SEEDS = ((0, 1), (7, 11), (87654321, 3))
TIMED = (50_000, 800_000)
S = 8_192


def same_ids(device: torch.device, V: int, S: int, unique: bool, seed: tuple[int, int]) -> str | None:
    """What differs between the device and the CPU."""
    labels = np.random.default_rng(1).integers(0, min(V, 10_000), (37, 1))
    cpu = fastnce.log_uniform_candidate_sampler(labels, 1, S, unique, V, seed=seed)
    gpu = fastnce.log_uniform_candidate_sampler(torch.from_numpy(labels).to(device), 1, S, unique, V, seed=seed)
    ids, *counts = (tensor.cpu() for tensor in gpu)
    if not np.array_equal(ids.numpy(), cpu[0]):
        return f"{int((ids.numpy() != cpu[0]).sum())} of {S} ids differ"
    off = [error(mine, torch.from_numpy(theirs).double()) for mine, theirs in zip(counts, cpu[1:], strict=True)]
    return None if all(value <= 1e-6 for value in off) else f"expected counts off by {off}"


def same_loss(device: torch.device) -> str | None:
    """The loss with a seed against the loss with what the sampler draws from that seed."""
    problem = Problem(Shape(V=5_000, D=40, B=70, T=2, S=90), torch.float32, device)
    labels, inputs = problem.batches[0]
    given = fastnce.log_uniform_candidate_sampler(labels, 2, 90, True, 5_000, seed=(3, 4))
    tables = problem.weights, problem.biases, labels, inputs, 90, 5_000, 2
    off = error(fastnce.nce_loss(*tables, seed=(3, 4)), fastnce.nce_loss(*tables, given).double())
    return None if off <= 1e-6 else f"off by {off:.1e}"


def checks(device: torch.device) -> dict[str, str]:
    """ "ok", or what is wrong, by what was compared."""
    found: dict[str, str] = {}

    def look(name: str, work: Callable[[], str | None]) -> None:
        try:
            found[name] = work() or "ok"
        except Exception as problem:
            traceback.print_exc()
            found[name] = f"failed: {type(problem).__name__}: {problem}"[:300]
        print(f"{name}: {found[name]}", flush=True)

    for V, S, unique in DRAWS:
        for seed in SEEDS:
            name = f"ids V={V} S={S} {'unique' if unique else 'repeated'} seed={seed}"
            look(name, lambda V=V, S=S, unique=unique, seed=seed: same_ids(device, V, S, unique, seed))
    look("loss samples as the sampler does", lambda: same_loss(device))
    return found


def times(device: torch.device, quick: bool) -> dict[str, Any]:
    """Of one call for 128 labels, S = 8192: fastnce's unique ids, and PyTorch's with replacement."""
    clock = Clock(device)
    steps: dict[str, Any] = {}
    for V in TIMED:
        problem = Problem(Shape(V=V, D=1, B=128, T=1, S=S), torch.float32, device)
        labels = problem.batches[0].labels
        flat, sample = labels.flatten(), Sampler(problem)
        steps[f"fastnce unique V={V}"] = lambda labels=labels, V=V: fastnce.log_uniform_candidate_sampler(
            labels, 1, S, True, V
        )
        steps[f"fastnce repeated V={V}"] = lambda labels=labels, V=V: fastnce.log_uniform_candidate_sampler(
            labels, 1, S, False, V
        )
        steps[f"torch repeated V={V}"] = lambda flat=flat, sample=sample: sample(flat)
    least, most = (2, 2) if quick else (5, 20)
    turns = rounds(clock, steps, seconds=3, least=least, most=most, before_each=lambda name: None)
    return {name: summary(own) for name, own in turns.items()}


def main() -> None:
    options, _ = command_line.parser(__doc__, "sampling.json").parse_known_args()
    device = torch.device(options.device)
    results: dict[str, Any] = {"checks": checks(device)}
    options.output.write_text(json.dumps(results))
    results["times"] = times(device, options.quick)
    options.output.write_text(json.dumps(results))
    sys.exit(any(value != "ok" for value in results["checks"].values()))


if __name__ == "__main__":
    main()
