"""One process that checks and times all contenders on some shapes; started by supervise.py.

    python bench/gpu/measure.py --shapes w2v,lm --output shapes.jsonl

Appends one line of JSON per finished shape. `--progress` names a file that says at any time who is at work, so that the
supervisor knows whom to leave out should this process die.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch._dynamo

import command_line
import lineup
from check import check, truth
from contender import LEVELS, Contender
from peak_memory import extra_bytes
from problems import BATCHES, Problem, Shape, named
from timing import Clock, Step, Turn, ratio, rounds, summary

# Exit status: the device is beyond use in this process.
DEVICE_LOST = 3


def cycled(contender: Contender) -> Step:
    """The contender's step on one batch after another."""
    batches = itertools.cycle(range(BATCHES))
    return lambda: contender.step(next(batches))


class Measurement:
    """One shape."""

    def __init__(self, name: str, shape: Shape, options: argparse.Namespace) -> None:
        self._name, self._shape, self._options = name, shape, options
        self._device = torch.device(options.device)
        self._cuda = self._device.type == "cuda"
        self._clock = Clock(self._device)
        self._ready: dict[str, Contender] = {}
        self.contenders: dict[str, dict[str, Any]] = {}

    def _at_work(self, name: str) -> None:
        """For the supervisor; and the global settings of the one whose turn it is."""
        if self._options.progress:
            self._options.progress.write_text(json.dumps({"shape": self._name, "contender": name}))
        if name in self._ready:
            self._ready[name].enter()

    def _guarded(self, name: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What the work found out, or how it failed; ends the process where CUDA does not answer any more."""
        try:
            found = work()
            self._clock.synchronize()
            return found
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".strip().splitlines()[0][:300]
            print(f"{self._name}: {name} failed: {reason}", flush=True)
            traceback.print_exc()
        try:
            self._clock.synchronize()
            torch.zeros(1, device=self._device).add_(1).item()
        except Exception:
            print(f"{self._name}: {name} took the device along", flush=True)
            sys.stdout.flush()
            raise SystemExit(DEVICE_LOST) from None
        return {"failed": reason}

    def _prepare(self, name: str, make: lineup.Make, problem: Problem, known: tuple[Any, Any]) -> dict[str, Any]:
        contender = make(problem)
        contender.enter()
        found: dict[str, Any] = {}
        captured = " graph " in name
        if self._cuda and not captured:
            found |= extra_bytes(cycled(contender), contender.outputs)
        candidates, expected = known
        found |= check(contender, expected, candidates)
        if "wrong" in found:
            print(f"{self._name}: {name} is WRONG: {found['wrong']}", flush=True)
        else:
            self._ready[name] = contender
        return found

    def _warm_products(self, problem: Problem) -> None:
        """Workspaces of cuBLAS belong to the process, not to a contender."""
        for level in LEVELS.values():
            torch.set_float32_matmul_precision(level.matmul)
            square = torch.ones(256, 256, dtype=level.dtype, device=problem.device)
            torch.mm(square, square)

    def run(self) -> dict[str, Any]:
        start = time.monotonic()
        problems = {dtype: Problem(self._shape, dtype, self._device) for dtype in (torch.float32, torch.bfloat16)}
        candidates = problems[torch.float32].candidates()
        known = {dtype: (candidates, truth(problem, candidates)) for dtype, problem in problems.items()}
        self._warm_products(problems[torch.float32])
        members = lineup.lineup(cuda=self._cuda, compiled=self._options.compiled)
        for name, (level, make) in members.items():
            if f"{self._name}/{name}" in self._options.exclude or name in self._options.exclude:
                self.contenders[name] = {"failed": "ended or stalled the process"}
                continue
            self._at_work(name)
            dtype = LEVELS[level].dtype
            self.contenders[name] = self._guarded(
                name,
                lambda name=name, make=make, dtype=dtype: self._prepare(name, make, problems[dtype], known[dtype]),
            )
        prepared = time.monotonic()
        turns = self._time()
        return {
            "name": self._name,
            "shape": asdict(self._shape),
            "flops": self._shape.flops,
            "seconds": {"prepare": prepared - start, "time": time.monotonic() - prepared},
            "rounds": max((len(t) for t in turns.values()), default=0),
            "fastnce_missing": lineup.FASTNCE_MISSING,
            "contenders": self.contenders,
        }

    def _time(self) -> dict[str, list[Turn]]:
        least, most = (2, 2) if self._options.quick else (5, 25)
        steps = {name: cycled(contender) for name, contender in self._ready.items()}
        turns = rounds(
            self._clock, steps, seconds=self._options.seconds, least=least, most=most, before_each=self._at_work
        )
        for name, own in turns.items():
            level = self._ready[name].level.key
            entry = self.contenders[name]
            entry |= summary(own)
            peers = {
                "fastnce": lineup.reference(level, list(turns), gradients=self._ready[name].gradients),
                "products": lineup.floor(level, list(turns)),
            }
            for what, other in peers.items():
                if other is not None:
                    entry[f"over_{what}"] = ratio(own, turns[other], "device")
                    entry[f"wall_over_{what}"] = ratio(own, turns[other], "wall")
        return turns

    def compile_only(self) -> None:
        """Run what torch.compile has to compile, so that it lies in the cache on disk."""
        for dtype in (torch.float32, torch.bfloat16):
            problem = Problem(self._shape, dtype, self._device)
            for name, (level, make) in lineup.lineup(cuda=False, compiled=True).items():
                if LEVELS[level].dtype is dtype and ("torch compile" in name or "torch whole" in name):
                    contender = make(problem)
                    contender.enter()
                    began = time.monotonic()
                    contender.step(0)
                    self._clock.synchronize()
                    print(f"{self._name}: {name} compiled in {time.monotonic() - began:.1f} s", flush=True)


def main() -> None:
    parser = command_line.parser(__doc__, "shapes.jsonl")
    parser.add_argument("--shapes", default="", metavar="w2v,lm,...", help="(default all)")
    parser.add_argument("--seconds", type=float, default=6.0, help="of timing per shape")
    parser.add_argument("--progress", type=Path)
    parser.add_argument("--exclude", type=json.loads, default=[], help="JSON list of contenders, or shape/contender")
    parser.add_argument("--no-compile", dest="compiled", action="store_false", help="without torch.compile")
    parser.add_argument("--compile-only", action="store_true", help="fill the compiler's cache and end")
    options = parser.parse_args()
    # Every level of a shape is a version of the same function.
    for limit in ("recompile_limit", "cache_size_limit"):
        if hasattr(torch._dynamo.config, limit):
            setattr(torch._dynamo.config, limit, 64)
    shapes = named(options.quick)
    for name in options.shapes.split(",") if options.shapes else shapes:
        # What was compiled for earlier shapes only counts against a limit.
        torch.compiler.reset()
        measurement = Measurement(name, shapes[name], options)
        if options.compile_only:
            measurement.compile_only()
        else:
            result = measurement.run()
            with options.output.open("a") as file:
                print(json.dumps(result), file=file, flush=True)
            print(f"{name}: {result['rounds']} rounds, {result['seconds']}", flush=True)
        del measurement
        gc.collect()
        if options.device == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
