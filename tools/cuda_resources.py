"""Resources of the CUDA kernels per architecture: registers, spills, occupancy, loads in flight.

    python tools/cuda_resources.py build/release/libfastnce.a            writes docs/cuda_resources.md
    python tools/cuda_resources.py --check build/release/libfastnce.a    fails if a kernel spills

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
from typing import NamedTuple

from sass import Loads, loads_in_flight

HOT = ("logits_kernel", "product_kernel", "scores_kernel")
"""Kernels that multiply: they must use tensor cores."""

ELEMENT_TYPES = ("float32", "float64", "float16", "bfloat16")
"""By DType."""


class Multiprocessor(NamedTuple):
    """What its blocks share; 65536 registers besides."""

    warps: int
    blocks: int
    shared_bytes: int


MULTIPROCESSORS = {"sm_80": Multiprocessor(64, 32, 164 << 10), "sm_90": Multiprocessor(64, 32, 228 << 10)}


@dataclass(frozen=True)
class Kernel:
    name: str
    architecture: str
    threads: int
    """Of a block: as launched, or the most it may be launched with."""
    registers: int
    stack: int
    local_accesses: int
    tensor_core: int
    shared_bytes: int
    looped: Loads
    """Loads in flight in a loop."""
    loads: Loads
    """Anywhere."""

    @property
    def blocks(self) -> int:
        """That fit one multiprocessor. Registers come in units of 256 per warp, for each quarter of the warps apart."""
        most = MULTIPROCESSORS[self.architecture]
        warps = up_to_multiple(self.threads, 32) // 32
        by_registers = 65536 // 4 // up_to_multiple(32 * self.registers, 256) * 4 // warps
        # CUDA takes 1 KiB of each block.
        by_shared = most.shared_bytes // up_to_multiple(self.shared_bytes + 1024, 128)
        return min(most.blocks, most.warps // warps, by_registers, by_shared)

    @property
    def occupancy(self) -> float:
        return self.blocks * self.threads / 32 / MULTIPROCESSORS[self.architecture].warps


def up_to_multiple(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def static_bytes(architecture: str, shown: int) -> int:
    """From sm_90 on, cuobjdump adds the 1 KiB that CUDA takes of each block, where a kernel declares shared memory."""
    return shown - 1024 if int(re.sub(r"\D", "", architecture)) >= 90 and shown >= 1024 else shown


def launched_bytes(name: str) -> int:
    """Shared memory that a kernel that multiplies is launched with, as in tile_product.cuh and geometry.h; else 0.

    That of the others, at most a few KiB, does not limit how many blocks fit.
    """
    if found := re.search(r"TileProduct<[^,]+, [^,]+, (\d+), \d+, (\d), (\d)", name):
        columns, parts_a, parts_b = map(int, found.groups())
    elif found := re.search(r"(?:Logistic|Softmax)Tile<(\d)", name):
        columns, parts_a, parts_b = 128, int(found[1]), int(found[1])
    else:
        return 0
    stage = 2 * 32 * (128 * parts_a + columns * parts_b)
    return stage * min(max(96 * 1024 // stage, 2), 4)


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
        name = re.sub(r"\(fastnce::DType\)(\d)", lambda m: ELEMENT_TYPES[int(m[1])], name)
        name = re.sub(r"\(anonymous namespace\)::|fastnce::cuda::|\(int\)|^void |\([A-Z]\w*\)$", "", name)
        names[symbol] = re.sub(r"TilePlan\{(.*), \d+\}", r"\1", name)  # without the registers
    return names


def threads_of(elf: str) -> Iterator[tuple[str, str, int]]:
    """(architecture, mangled name, threads) of `cuobjdump --dump-elf`: they are an attribute of each kernel."""
    for part in re.split(r"(?=^Fatbin elf code:)", elf, flags=re.M):
        architecture = re.search(r"^arch = (\S+)", part, flags=re.M)
        for section in re.split(r"^\.nv\.info\.", part, flags=re.M)[1:]:
            threads = re.search(r"EIATTR_MAX_THREADS\s+Format:\s*\S+\s+Value:\s*0x([0-9a-f]+)", section)
            if architecture is not None and threads is not None:
                yield architecture[1], section.split(maxsplit=1)[0], int(threads[1], 16)


def kernels_of(library: Path, cuobjdump: str) -> list[Kernel]:
    def dump(option: str) -> str:
        return subprocess.run([cuobjdump, option, str(library)], capture_output=True, text=True, check=True).stdout

    usage = {}
    for architecture, name, body in sections(dump("--dump-resource-usage"), "Function"):
        # CUB's kernels are not ours.
        if "fastnce" in name and "cub" not in name:
            usage[architecture, name] = dict(re.findall(r"(\w+):(\d+)", body.partition("\n")[2]))
    code = {(architecture, name): body for architecture, name, body in sections(dump("--dump-sass"), "Function")}
    threads = {(architecture, name): value for architecture, name, value in threads_of(dump("--dump-elf"))}
    names = short_names([name for _, name in usage])

    def kernel(key: tuple[str, str]) -> Kernel:
        looped, loads = loads_in_flight(code[key])
        return Kernel(
            name=names[key[1]],
            architecture=key[0],
            threads=threads[key],
            registers=int(usage[key]["REG"]),
            stack=int(usage[key]["STACK"]),
            local_accesses=len(re.findall(r"\b(?:LDL|STL)\b", code[key])),
            tensor_core=len(re.findall(r"\bHG?MMA\b", code[key])),
            shared_bytes=static_bytes(key[0], int(usage[key]["SHARED"])) + launched_bytes(names[key[1]]),
            looped=looped,
            loads=loads,
        )

    return sorted(
        map(kernel, usage),
        key=lambda kernel: (not kernel.name.startswith(HOT), kernel.name, kernel.architecture),
    )


def faults(kernels: list[Kernel]) -> Iterator[str]:
    for name in HOT:
        if not any(kernel.name.startswith(name) for kernel in kernels):
            yield f"no {name} was found"
    for kernel in kernels:
        where = f"{kernel.name} on {kernel.architecture}"
        if kernel.stack or kernel.local_accesses:
            yield f"{where}: {kernel.stack} bytes of stack, {kernel.local_accesses} accesses to local memory"
        if kernel.name.startswith(HOT) and not kernel.tensor_core:
            yield f"{where}: no tensor-core instruction"


def row(k: Kernel) -> str:
    def in_flight(loads: Loads) -> str:
        return f"{loads.bytes} ({loads.count})" if loads.count else "0"

    occupancy = f"{k.blocks} | {k.occupancy:.0%}" if k.architecture in MULTIPROCESSORS else " | "
    spills = f"{k.stack} / {k.local_accesses}"
    numbers = f"{k.threads} | {k.registers} | {k.shared_bytes} | {occupancy} | {spills} | {k.tensor_core}"
    return f"| `{k.name}` | {k.architecture} | {numbers} | {in_flight(k.looped)} | {in_flight(k.loads)} |"


def page(kernels: list[Kernel]) -> str:
    lines = [
        "# Resources of the CUDA kernels",
        "",
        "Written by `make cuda-report` from the compiled machine code.",
        "",
        "- Threads: of a block, as launched; `reduce_rows` and `join_rows` may have fewer.",
        "- Shared memory: bytes of a block. What is chosen at launch is included for the kernels that multiply; of the",
        "  others it is a few KiB, which does not limit how many blocks fit.",
        "- Blocks and occupancy: blocks that fit one multiprocessor, by registers, threads and shared memory, and the",
        "  warps that these are of the 64 that it can hold.",
        "- Spills: bytes of stack / accesses to local memory in the code. There must be none.",
        "- Tensor: tensor-core instructions (`HMMA`) in the code.",
        "- Loads in flight: the most bytes (loads) of one thread that are issued before the first instruction that",
        "  needs one of them, in a basic block of a loop and in any basic block. An unrolled loop counts with all its",
        "  repetitions, even if it usually has few. The kernels that multiply read their operands by asynchronous",
        "  copies, which are not counted.",
        "",
        "Template arguments of `TileProduct`: memory layouts of A and B, columns of the block's tile, columns of a",
        "warp's tile, parts of A, parts of B, order, type of the operands. Of `LogisticTile` and `SoftmaxTile`: parts",
        "of the operands, order, type. Of `scale`: order. Of `update`: optimizer, columns of one access, threads of a",
        "row. Of the other kernels: types of inputs and weights.",
        "",
        "| kernel | architecture | threads | registers | shared memory | blocks | occupancy | spills | tensor |"
        " loads in loops | loads anywhere |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    return "\n".join([*lines, *map(row, kernels)]) + "\n"


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
    print("\n".join(found) or f"{len(kernels)} kernels, none spills")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
