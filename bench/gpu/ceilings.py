"""Facts of the machine, and its ceilings: copying device memory, and cuBLAS's square products on random data.

python bench/gpu/ceilings.py --output machine.json
"""

from __future__ import annotations

import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import command_line

sys.path.append(str(Path(__file__).resolve().parents[1] / "peers"))
from machine import commit, machine

ROOT = Path(__file__).resolve().parents[2]

QUERY = "name,driver_version,memory.total,compute_cap,clocks.sm,clocks.max.sm,clocks.mem,power.limit,temperature.gpu"
PACKAGES = ("torch", "triton", "numpy", "pybind11", "scikit-build-core", "cmake", "ninja", "pytest")


def output_of(*command: str) -> str | None:
    """What a program prints, if it is there and answers."""
    try:
        finished = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return finished.stdout.strip()


def version_of(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def source_commit() -> str | None:
    """Of the repository, or what FASTNCE_COMMIT or a file COMMIT says where there is none."""
    written = ROOT / "COMMIT"
    return commit() or os.environ.get("FASTNCE_COMMIT") or (written.read_text().strip() if written.exists() else None)


def facts(device: torch.device) -> dict[str, Any]:
    cuda = device.type == "cuda"
    nvidia = output_of("nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader")
    nvcc = output_of(os.environ.get("CUDACXX") or "nvcc", "--version")
    gxx = output_of("g++", "--version")
    found: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": source_commit(),
        "machine": machine(),
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := version_of(name))},
        "torch_cuda": torch.version.cuda,
        "nvcc": nvcc and nvcc.splitlines()[-1],
        "gxx": gxx and gxx.splitlines()[0],
        "gpu": dict(zip(QUERY.split(","), (part.strip() for part in nvidia.split("\n")[0].split(",")), strict=False))
        if nvidia
        else None,
    }
    if cuda:
        properties = torch.cuda.get_device_properties(device)
        found["gpu_properties"] = {
            "name": properties.name,
            "multiprocessors": properties.multi_processor_count,
            "memory_bytes": properties.total_memory,
            "l2_bytes": properties.L2_cache_size,
        }
    return found


def seconds_of(work: Callable[[], object], cuda: bool, repeats: int) -> list[float]:
    """Of each of several runs, after three to warm up."""
    for _ in range(3):
        work()
    if not cuda:
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
        return times
    events = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]
    events[0].record()
    for event in events[1:]:
        work()
        event.record()
    torch.cuda.synchronize()
    return [1e-3 * a.elapsed_time(b) for a, b in itertools.pairwise(events)]


def ceilings(device: torch.device, quick: bool) -> dict[str, Any]:
    """Medians, and all samples: gigabytes (read and written) and teraflops per second."""
    cuda = device.type == "cuda"
    found: dict[str, Any] = {}

    def rate(name: str, amount: float, work: Callable[[], object], repeats: int = 10) -> None:
        rates = [amount / seconds for seconds in seconds_of(work, cuda, repeats)]
        found[name] = {"median": statistics.median(rates), "samples": rates}

    elements = 1 << (20 if quick else 29)
    source, target = torch.rand(elements, device=device), torch.empty(elements, device=device)
    rate("copy_gbs", 8e-9 * elements, lambda source=source, target=target: target.copy_(source))
    n = 128 if quick else 8192
    for name, dtype, matmul in (
        ("bf16_tflops", torch.bfloat16, "highest"),
        ("tf32_tflops", torch.float32, "high"),
        ("f32_tflops", torch.float32, "highest"),
    ):
        torch.set_float32_matmul_precision(matmul)
        a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
        out = torch.empty_like(a)
        rate(name, 2e-12 * n**3, lambda a=a, b=b, out=out: torch.mm(a, b, out=out), repeats=7)
    return found


def main() -> None:
    options, _ = command_line.parser(__doc__, "machine.json").parse_known_args()
    device = torch.device(options.device)
    results = facts(device)
    options.output.write_text(json.dumps(results))
    print(json.dumps(results, indent=1), flush=True)
    results["ceilings"] = ceilings(device, options.quick)
    options.output.write_text(json.dumps(results))
    for name, values in results["ceilings"].items():
        print(f"{name}: {values['median']:.1f}", flush=True)


if __name__ == "__main__":
    main()
