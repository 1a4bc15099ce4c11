"""Runs measure.py over all shapes, and again without contenders that made it die or stall, until the time is up.

python bench/gpu/supervise.py --work DIR --budget 180
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
# A contender that shows no sign of life for so long has stalled: compilation takes some ten seconds at worst.
STALL_SECONDS = 75.0
# Of a shape: of its budget, to build the problem, check and warm up; the rest is for timing.
LEAST_SECONDS = 12.0
# Exit status, as of the program timeout.
OUT_OF_TIME = 124


def finished(output: Path) -> list[str]:
    """Names of the shapes that have a line."""
    names = []
    for line in output.read_text().splitlines() if output.exists() else []:
        with contextlib.suppress(ValueError):  # the line of a process that was stopped
            names.append(json.loads(line)["name"])
    return names


def stop(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def watch(process: subprocess.Popen[bytes], progress: Path, deadline: float) -> str | None:
    """Wait for the end of the process; None if all went well, else why not."""
    last = time.time()
    while (status := process.poll()) is None:
        time.sleep(0.2)
        if progress.exists():
            last = max(last, progress.stat().st_mtime)
        if time.monotonic() > deadline:
            stop(process)
            return "out of time"
        if time.time() - last > STALL_SECONDS:
            stop(process)
            return "stalled"
    return None if status == 0 else f"ended with status {status}"


def main() -> None:
    # So that a time limit from outside ends the worker, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="where shapes.jsonl goes")
    parser.add_argument("--budget", type=float, default=180.0, help="seconds in all")
    parser.add_argument("--shapes", required=True, metavar="w2v,lm,...")
    options, others = parser.parse_known_args()
    deadline = time.monotonic() + options.budget
    output, progress = options.work / "shapes.jsonl", options.work / "progress.json"
    output.unlink(missing_ok=True)
    shapes = options.shapes.split(",")
    exclude: list[str] = []
    crashes: Counter[str] = Counter()
    events = []
    while left := [name for name in shapes if name not in finished(output)]:
        remaining = deadline - time.monotonic()
        if remaining < 5:
            events.append(f"no time for {', '.join(left)}")
            break
        seconds = max(2.0, min(8.0, remaining / len(left) - LEAST_SECONDS))
        progress.unlink(missing_ok=True)
        command = [sys.executable, str(HERE / "measure.py"), "--shapes", ",".join(left), "--output", str(output)]
        command += ["--progress", str(progress), "--seconds", f"{seconds:.1f}", "--exclude", json.dumps(exclude)]
        # A group of its own, so that compile workers go with it.
        process = subprocess.Popen([*command, *others], start_new_session=True)
        try:
            trouble = watch(process, progress, deadline)
        finally:
            stop(process)
        if trouble is None:
            continue
        culprit = json.loads(progress.read_text()) if progress.exists() else {}
        events.append(f"{trouble}: {culprit.get('shape', '?')}, {culprit.get('contender', '?')}")
        print(f"supervise: {events[-1]}", flush=True)
        if trouble == "out of time":
            break
        if not culprit:
            # It died before anybody was at work: once more may help, a third time will not.
            crashes[""] += 1
            if crashes[""] > 1:
                break
            continue
        crashes[culprit["contender"]] += 1
        twice = crashes[culprit["contender"]] > 1
        exclude.append(culprit["contender"] if twice else f"{culprit['shape']}/{culprit['contender']}")
    (options.work / "supervise.json").write_text(json.dumps({"events": events}))
    if set(shapes) <= set(finished(output)):
        sys.exit(0)
    sys.exit(OUT_OF_TIME if time.monotonic() > deadline - 5 else 1)


if __name__ == "__main__":
    main()
