"""What run.sh needs of this machine: a line for each thing that is missing, and the stages that are left out for it.

    python bench/gpu/requirements.py --output requirements.sh

Needs nothing but Python. The output is for run.sh to source: CUDACXX, SANITIZER, ARCH, and LACKS[stages]=reason.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import toolkit
from programs import Answer, ask, dotted, version_in

STAGES = ("machine", "compile", "build", "cpp", "tests", "sanitize", "sampling", "measure")
WITH_TORCH = ("machine", "compile", "sanitize", "sampling", "measure")

# One step on the device: a PyTorch for other GPUs fails there. Prints the compute capability, or one line of the error.
TRY_TORCH = """
import sys
try:
    import torch
    torch.ones(2, device=sys.argv[1]).sum().item()
    print("capability %d.%d" % torch.cuda.get_device_capability() if sys.argv[1] == "cuda" else "")
except Exception as error:
    sys.exit(f"{error}".partition("\\n")[0])
"""


class Missing(NamedTuple):
    what: str
    stages: tuple[str, ...]


def package(name: str, least: tuple[int, ...] = ()) -> str:
    """What is wrong with a package of this Python, if anything."""
    wanted = f"{name} >= {dotted(least)}" if least else name
    try:
        version = str(getattr(importlib.import_module(name), "__version__", ""))
    except Exception as error:  # whatever a broken installation raises
        return f"{wanted}: {error}"
    return f"{wanted}: it is {version}" if version_in(version) < least else ""


def headers() -> str:
    folder = sysconfig.get_path("include")
    return "" if Path(folder, "Python.h").is_file() else f"Python's headers: no {folder}/Python.h (python3-dev)"


def cxx() -> str:
    compiler = os.environ.get("CXX") or next(filter(shutil.which, ("c++", "g++", "clang++")), "c++")
    program = "#include <concepts>\nstatic_assert(__cplusplus >= 202002L);\nint main() {}\n"
    answer = ask([*shlex.split(compiler), "-std=c++20", "-fsyntax-only", "-x", "c++", "-"], 20, program)
    return "" if answer.ok else f"a C++20 compiler: {compiler}: {answer.reason}"


def cmake() -> str:
    answer = ask(["cmake", "--version"], 10)
    if not answer.ok:
        return f"CMake >= 3.24: cmake: {answer.reason}"
    version = version_in(answer.text)
    return f"CMake >= 3.24: it is {dotted(version)}" if version < (3, 24) else ""


def make() -> str:
    return "" if shutil.which("ninja") or shutil.which("make") else "ninja or make"


def googletest() -> str:
    folders = ("/usr/include", "/usr/local/include", f"{os.environ.get('GTEST_ROOT', '/nowhere')}/include")
    return "" if any(Path(folder, "gtest/gtest.h").is_file() for folder in folders) else "GoogleTest"


def sanitizer(nvcc: str) -> str:
    """compute-sanitizer: that of the toolkit in use before any other."""
    beside = Path(nvcc).resolve().parent if nvcc else Path("/nowhere")
    return shutil.which("compute-sanitizer", path=str(beside)) or shutil.which("compute-sanitizer") or ""


class Gpu(NamedTuple):
    capability: str = ""  # "9.0"
    driver: tuple[int, ...] = ()  # the CUDA that it supports
    trouble: str = ""


def nvidia_smi() -> Gpu:
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
    which = ["-i", first] if first else []
    answer = ask(["nvidia-smi", *which, "--query-gpu=compute_cap", "--format=csv,noheader"], 10)
    capability = version_in(answer.text)
    if not answer.ok or not capability:
        return Gpu(trouble=f"nvidia-smi: {answer.reason}")
    return Gpu(dotted(capability), version_in(ask(["nvidia-smi"], 10).text, r"CUDA (?:\w+ )?Version:\s*"))


def pytorch(device: str) -> tuple[Answer, str]:
    """Whether it works on the device, and the device's compute capability."""
    answer = ask([sys.executable, "-W", "ignore", "-c", TRY_TORCH, device], 60)
    return answer, dotted(version_in(answer.text, "capability "))


def check(device: str, found: dict[str, str]) -> Iterator[Missing]:
    """What is missing. CUDACXX, SANITIZER and ARCH go into `found`, and what else there is to say under "notes"."""
    on_gpu = device == "cuda"
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(pytorch, device)
        gpu = nvidia_smi() if on_gpu else Gpu()
        torch, capability = asked.result()
    capability = capability or gpu.capability
    if on_gpu and not torch.ok and not gpu.capability:
        yield Missing(f"a GPU: {gpu.trouble}; PyTorch: {torch.reason}", STAGES)
        return
    if not torch.ok:
        yield Missing(f"PyTorch on {device}: {torch.reason}", WITH_TORCH)
    notes = []
    if on_gpu:
        if gpu.trouble:
            notes.append(gpu.trouble)
        choice = toolkit.choose(os.environ, capability, gpu.driver)
        notes += [f"not used: {reason}" for reason in choice.refused]
        found |= {"CUDACXX": choice.nvcc, "SANITIZER": sanitizer(choice.nvcc)}
        found["ARCH"] = f"{toolkit.target(capability)}-real"
        if choice.missing:
            yield Missing(choice.missing, ("build", "cpp"))
        if not found["SANITIZER"]:
            yield Missing("compute-sanitizer", ("sanitize",))
        if reason := googletest():
            yield Missing(reason, ("cpp",))
        if reason := package("triton"):
            yield Missing(reason, ("compile",))
    else:
        yield Missing("a GPU (this is --device cpu)", ("cpp", "sanitize"))
    for reason, stages in (
        (package("pybind11", (3, 0)), ("build",)),
        (headers(), ("build", "compile")),
        (cxx(), ("build", "cpp", "compile")),
        (cmake(), ("build", "cpp")),
        (make(), ("build", "cpp")),
        (package("numpy", (2, 0)), ("build", "tests", *WITH_TORCH[1:])),
        (package("pytest"), ("tests",)),
    ):
        if reason:
            yield Missing(reason, stages)
    if reason := package("ml_dtypes"):
        notes.append(f"the tests skip bfloat16, without {reason}")
    found["notes"] = "\n".join(notes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--output", type=Path, required=True)
    options, _ = parser.parse_known_args()
    found: dict[str, str] = {}
    lacks: dict[str, str] = {}
    for missing in check(options.device, found):
        print(f"missing: {missing.what} (for {', '.join(missing.stages)})", flush=True)
        for stage in missing.stages:
            lacks.setdefault(stage, missing.what)
    for note in found.pop("notes", "").splitlines():
        print(f"note: {note}", flush=True)
    lines = [f"{name}={shlex.quote(value)}" for name, value in found.items() if value]
    lines += [f"LACKS[{stage}]={shlex.quote(reason)}" for stage, reason in lacks.items()]
    options.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
