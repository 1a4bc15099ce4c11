"""Resources of the CUDA kernels per architecture: registers, stack, local memory accesses, tensor-core instructions.

    python tools/cuda_resources.py build/release/libfastnce.a            writes docs/cuda_resources.md
    python tools/cuda_resources.py --check build/release/libfastnce.a    fails if a hot kernel spills

Reads the machine code with cuobjdump, from the PATH or from the package nvidia-cuda-cuobjdump.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HOT = ("logits_kernel", "product_kernel")
"""Kernels that multiply: they must use tensor cores and no local memory."""


@dataclass(frozen=True)
class Kernel:
    name: str
    architecture: str
    registers: int
    stack: int
    local_accesses: int
    tensor_core: int


def find_cuobjdump() -> str | None:
    wheels = [Path(folder) / "nvidia" for folder in sys.path]
    folders = [str(found.parent) for wheel in wheels if wheel.is_dir() for found in wheel.glob("*/bin/cuobjdump")]
    # cuobjdump itself looks for nvdisasm on the PATH.
    os.environ["PATH"] = os.pathsep.join([*folders, os.environ["PATH"]])
    return shutil.which("cuobjdump") if shutil.which("nvdisasm") else None


def sections(text: str, start: str) -> Iterator[tuple[str, str, str]]:
    """(architecture, mangled name, body) of what ``start`` opens for each kernel."""
    for part in re.split(r"(?=^Fatbin elf code:)", text, flags=re.M):
        architecture = re.search(r"^arch = (\S+)", part, flags=re.M)
        if architecture is None:
            continue
        for body in re.split(rf"(?=^\s*{start})", part, flags=re.M)[1:]:
            name = re.match(rf"\s*{start}\s*:?\s*([^\s:]+)", body)
            if name is not None:
                yield architecture.group(1), name.group(1), body


def short_names(mangled: list[str]) -> dict[str, str]:
    shown = subprocess.run(["c++filt"], input="\n".join(mangled), capture_output=True, text=True, check=True).stdout
    names = {}
    for symbol, name in zip(mangled, shown.splitlines(), strict=True):
        name = re.sub(
            r"\(fastnce::cuda::Contiguous\)(\d)", lambda m: ("k along memory", "m along memory")[int(m[1])], name
        )
        name = re.sub(r"\(anonymous namespace\)::|fastnce::cuda::|\(int\)|^void |\([A-Z]\w*\)$", "", name)
        names[symbol] = name
    return names


def kernels_of(library: Path, cuobjdump: str) -> list[Kernel]:
    def dump(option: str) -> str:
        return subprocess.run([cuobjdump, option, str(library)], capture_output=True, text=True, check=True).stdout

    usage = {}
    for architecture, name, body in sections(dump("--dump-resource-usage"), "Function"):
        values = dict(re.findall(r"(\w+):(\d+)", body.partition("\n")[2]))
        usage[architecture, name] = int(values["REG"]), int(values["STACK"])
    code = {
        (architecture, name): (len(re.findall(r"\b(?:LDL|STL)\b", body)), len(re.findall(r"\bHG?MMA\b", body)))
        for architecture, name, body in sections(dump("--dump-sass"), "Function")
    }
    ours = [key for key in usage if "fastnce" in key[1] and "cub" not in key[1]]
    names = short_names([name for _, name in ours])
    return sorted(
        (Kernel(names[key[1]], key[0], *usage[key], *code[key]) for key in ours),
        key=lambda kernel: (not any(hot in kernel.name for hot in HOT), kernel.name, kernel.architecture),
    )


def faults(kernels: list[Kernel]) -> Iterator[str]:
    hot = [kernel for kernel in kernels if any(name in kernel.name for name in HOT)]
    for name in HOT:
        if not any(name in kernel.name for kernel in hot):
            yield f"no {name} was found"
    for kernel in hot:
        where = f"{kernel.name} on {kernel.architecture}"
        if kernel.stack or kernel.local_accesses:
            yield f"{where}: {kernel.stack} bytes of stack, {kernel.local_accesses} accesses to local memory"
        if not kernel.tensor_core:
            yield f"{where}: no tensor-core instruction"


def page(kernels: list[Kernel]) -> str:
    lines = [
        "# Resources of the CUDA kernels",
        "",
        "Written by `make cuda-report` from the compiled machine code; the kernels have not yet run on a GPU.",
        "Registers spill to local memory. Accesses to it and tensor-core instructions (`HMMA`) are counted in the",
        "code, not at run time. Shared memory is chosen at launch, at most 96 KiB.",
        "",
        "Template arguments of `TileProduct`: memory layouts of A and B, columns of the block's tile, columns of a",
        "warp's tile, bfloat16 parts of A, parts of B, order. Of `LogitsTile`: parts of the operands, order.",
        "",
        "| kernel | architecture | registers | stack, bytes | local accesses | tensor-core instructions |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for k in kernels:
        numbers = f"{k.registers} | {k.stack} | {k.local_accesses} | {k.tensor_core}"
        lines.append(f"| `{k.name}` | {k.architecture} | {numbers} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    cuobjdump = find_cuobjdump()
    if cuobjdump is None:
        print("SKIPPED: cuobjdump or nvdisasm was not found")
        return 0 if options.check else 1
    kernels = kernels_of(options.archive, cuobjdump)
    if not options.check:
        Path("docs/cuda_resources.md").write_text(page(kernels))
        return 0
    found = list(faults(kernels))
    print("\n".join(found) or f"{len(kernels)} kernels, no hot one spills")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
