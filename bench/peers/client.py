"""The orchestrator's end of a worker: starts the process in its own virtual environment and talks to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

HERE = Path(__file__).resolve().parent
FASTNCE = "fastnce"
# Which virtual environment each peer lives in.
PEERS = {"tensorflow": "tensorflow", "pytorch": "pytorch", "mkl_gemms": "pytorch"}
# Left alone, glibc hands large buffers back to the kernel when they are freed, and each call faults them in
# anew: half of PyTorch's time on recsys. No expert leaves it at that, so workers keep them by default.
ALLOCATORS = {
    "retain": {"MALLOC_MMAP_THRESHOLD_": str(1 << 28), "MALLOC_TRIM_THRESHOLD_": str(1 << 34)},
    "system": {},
}


class WorkerError(RuntimeError):
    """A worker could not start, died, or answered with a traceback."""


def interpreter(name: str, venvs: Path) -> Path:
    """The Python that has the library; fastnce is measured where the orchestrator itself runs."""
    python = Path(sys.executable) if name == FASTNCE else venvs / PEERS[name] / "bin" / "python"
    if not python.exists():
        raise WorkerError(f"no interpreter at {python}")
    return python


class WorkerClient:
    """One running worker. `versions` holds what it said of itself when it started."""

    def __init__(self, name: str, venvs: Path, threads: int, allocator: str) -> None:
        self.name = name
        # Idle threads spin for a while and then sleep, as each library's users get it: forcing either would
        # favour somebody. Only Intel's OpenMP spins for 200 ms, far longer than the pause between turns.
        settings = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
        settings |= ALLOCATORS[allocator]
        self._process = subprocess.Popen(
            [interpreter(name, venvs), str(HERE / "worker.py"), name, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"KMP_BLOCKTIME": "1", "TF_CPP_MIN_LOG_LEVEL": "2", **os.environ, **settings},
        )
        self.pid = self._process.pid
        self.versions: dict[str, Any] = self._read()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # End of input ends a worker; one that is in the middle of a long call is not worth waiting for.
        if error is not None:
            self._process.kill()
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def ask(self, command: str, **arguments: Any) -> Any:
        """Send one request and wait for its result."""
        assert self._process.stdin is not None
        try:
            print(json.dumps({"command": command, **arguments}), file=self._process.stdin, flush=True)
        except BrokenPipeError as error:
            raise WorkerError(f"{self.name}: worker ended with status {self._process.wait()}") from error
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise WorkerError(f"{self.name}: worker ended with status {self._process.wait()}")
        reply = json.loads(line)
        if "error" in reply:
            raise WorkerError(f"{self.name}: {reply['error']}")
        return reply["result"]
