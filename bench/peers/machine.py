"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# The flags that decide which kernels a library picks.
FLAGS = (
    "avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512_bf16", "avx512_vnni", "avx_vnni",
    "amx_tile", "amx_bf16", "amx_int8", "asimd", "sve", "sve2", "bf16",
)  # fmt: skip


def _cpuinfo() -> dict[str, str]:
    """The first processor's entries."""
    try:
        text = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def machine() -> dict[str, Any]:
    """Processor, its instruction sets, the cores this process may use, memory and operating system."""
    info = _cpuinfo()
    flags = set((info.get("flags") or info.get("Features") or "").split())
    return {
        "cpu": info.get("model name") or platform.processor() or platform.machine(),
        "flags": [flag for flag in FLAGS if flag in flags],
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "os": platform.platform(),
    }


def busy_seconds(pids: Iterable[int]) -> float:
    """Processor time that the machine has spent so far on anything but these processes and this one.

    Ratios do not survive other load: a thread that waits spinning for another that lost its core costs some
    libraries far more than others.
    """
    # user nice system idle iowait irq softirq steal; guest time is part of user.
    user, nice, system, _, _, *rest = map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9])
    ticks = user + nice + system + sum(rest)
    for pid in ("self", *pids):
        # What follows the command, which may contain blanks: utime and stime are fields 14 and 15 of all.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks -= int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def commit() -> str | None:
    """The checked-out commit, marked when files differ from it; None outside a repository."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        head = git("rev-parse", "HEAD")
        # Without optional locks, so that looking does not touch the index that somebody may be working with.
        return head + ("-dirty" if git("--no-optional-locks", "status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
