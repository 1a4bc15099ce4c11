"""Which nvcc builds the backend: the one that the environment names, or the newest that works."""

from __future__ import annotations

import os
import shutil
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping
from glob import glob
from pathlib import Path
from typing import NamedTuple

from programs import ask, dotted, version_in

PROBE = Path(__file__).resolve().parents[2] / "cmake" / "nvcc_probe" / "probe.cu"
LEAST = (12, 0)  # as in cmake/find_nvcc.cmake
FOLDERS = ("/usr/local/cuda*/bin", "/opt/cuda*/bin", f"{sysconfig.get_path('purelib')}/nvidia/cu1*/bin")


class Choice(NamedTuple):
    nvcc: str = ""
    missing: str = ""
    refused: tuple[str, ...] = ()
    """Those that the environment names and that cannot be used, with the reason."""


def named(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(variable, nvcc) that the environment asks for, the most specific first."""
    for variable, inside in (("CUDACXX", ""), ("CUDA_HOME", "bin/nvcc"), ("CUDA_PATH", "bin/nvcc")):
        if value := environment.get(variable):
            yield variable, str(Path(value, inside)) if inside else shutil.which(value) or value


def others(environment: Mapping[str, str]) -> list[str]:
    """On the PATH and where toolkits usually are, each once."""
    folders = environment.get("PATH", "").split(os.pathsep)
    folders += [folder for pattern in FOLDERS for folder in sorted(glob(pattern), reverse=True)]
    found = {str(path.resolve()): str(path) for folder in reversed(folders) if (path := Path(folder, "nvcc")).is_file()}
    return list(reversed(found.values()))


def release(nvcc: str) -> tuple[tuple[int, ...], str]:
    """Its CUDA, or why it has none."""
    answer = ask([nvcc, "--version"], 10)
    version = version_in(answer.text, "release ") if answer.ok else ()
    return version, "" if version else f"{nvcc} does not run: {answer.reason}"


def trouble(nvcc: str, version: tuple[int, ...], capability: str, driver: tuple[int, ...]) -> str:
    """What keeps this nvcc from building for this GPU and driver."""
    what = f"{nvcc} of CUDA {dotted(version)}"
    if version < LEAST:
        return f"{what} is too old: {dotted(LEAST)} or later is needed"
    if driver and version[0] > driver[0]:
        return f"{what} is too new for the driver, which supports CUDA {dotted(driver)}"
    architecture = [f"-arch=sm_{target(capability)}"] if capability else []
    host = ["-ccbin", os.environ["CUDAHOSTCXX"]] if "CUDAHOSTCXX" in os.environ else []
    with tempfile.TemporaryDirectory() as folder:
        command = [nvcc, "-std=c++20", "--expt-relaxed-constexpr", *architecture, *host, "-c", str(PROBE)]
        answer = ask([*command, "-o", f"{folder}/probe.o"], 60)
    return "" if answer.ok else f"{what} does not compile: {answer.reason}"


def target(capability: str) -> str:
    """The architecture's own instructions (the "a" of 90a) come with no other name."""
    digits = capability.replace(".", "")
    return digits + "a" if int(digits) >= 90 else digits


def choose(environment: Mapping[str, str], capability: str = "", driver: tuple[int, ...] = ()) -> Choice:
    refused = []
    for variable, nvcc in named(environment):
        version, reason = release(nvcc)
        reason = reason or trouble(nvcc, version, capability, driver)
        if not reason:
            return Choice(nvcc, refused=tuple(refused))
        refused.append(f"{variable}: {reason}")
    releases = {nvcc: release(nvcc) for nvcc in others(environment)}
    reasons = [reason for _, reason in releases.values() if reason]
    usable = [nvcc for nvcc, (version, _) in releases.items() if version]
    for nvcc in sorted(usable, key=lambda nvcc: releases[nvcc][0], reverse=True):
        reason = trouble(nvcc, releases[nvcc][0], capability, driver)
        if not reason:
            return Choice(nvcc, refused=tuple(refused))
        reasons.append(reason)
    why = "; ".join([*refused, *reasons]) or f"none on the PATH, in CUDA_HOME or in {FOLDERS[0]}"
    return Choice(missing=f"an nvcc of CUDA {dotted(LEAST)} or later that works: {why}", refused=tuple(refused))
