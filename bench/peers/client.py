"""The orchestrator's end of a worker: starts the process in its own virtual environment and talks to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from shapes import NCE, SOFTMAX, Shape

HERE = Path(__file__).resolve().parent


class Member(NamedTuple):
    """A library that can take part: its label in tables, adapter and variant, and virtual environment."""

    label: str
    adapter: tuple[str, ...]
    environment: str | None = None
    """None: where the orchestrator itself runs."""
    loss: str = NCE


# All ratios are to the first.
FASTNCE = "fastnce"
MEMBERS = {
    FASTNCE: Member("fastnce", ("fastnce", "highest")),
    "fastnce_high": Member("fastnce, high", ("fastnce", "high")),
    "fastnce_medium": Member("fastnce, medium", ("fastnce", "medium")),
    "tensorflow": Member("TensorFlow", ("tensorflow",), "tensorflow"),
    "pytorch": Member("PyTorch", ("pytorch", "eager"), "pytorch"),
    "pytorch_compile": Member("torch.compile", ("pytorch", "compile"), "pytorch"),
    "jax": Member("JAX jit", ("jax",), "jax"),
    "mkl_gemms": Member("MKL, bare products", ("mkl_gemms",), "pytorch"),
}
# fastnce in a framework's idiom; needs fastnce in that framework's environment.
FRONT_ENDS = {
    "fastnce_torch": Member("fastnce.torch", ("fastnce_torch", "eager"), "pytorch"),
    "fastnce_torch_compile": Member("fastnce.torch, compiled", ("fastnce_torch", "compile"), "pytorch"),
    "autograd": Member("autograd alone", ("fastnce_torch", "autograd"), "pytorch"),
    "fastnce_jax": Member("fastnce.jax", ("fastnce_jax",), "jax"),
}
# The same libraries' sampled softmax.
SOFTMAX_MEMBERS = {
    f"{name}_softmax": MEMBERS[name]._replace(loss=SOFTMAX)
    for name in (FASTNCE, "tensorflow", "pytorch", "pytorch_compile", "jax")
}
# A step of training: the tables are updated.
TRAINING_MEMBERS = {
    "train_step": Member("`train_step`, Adagrad", ("fastnce_training", "adagrad")),
    "train_step_rowwise": Member("`train_step`, RowwiseAdagrad", ("fastnce_training", "rowwise_adagrad")),
    "two_calls": Member("loss, then `update_rows`", ("fastnce_training", "two_calls")),
    "pytorch_training": Member("PyTorch", ("pytorch_training",), "pytorch"),
    "tensorflow_training": Member("TensorFlow", ("tensorflow_training",), "tensorflow"),
}
FASTNCE_SOFTMAX = f"{FASTNCE}_softmax"
EVERYBODY = MEMBERS | FRONT_ENDS | SOFTMAX_MEMBERS | TRAINING_MEMBERS
# Left alone, glibc hands large buffers back to the kernel when they are freed, and each call faults them in
# anew: half of PyTorch's time on recsys. No expert leaves it at that, so workers keep them by default.
ALLOCATORS = {
    "retain": {"MALLOC_MMAP_THRESHOLD_": str(1 << 28), "MALLOC_TRIM_THRESHOLD_": str(1 << 34)},
    "system": {},
}
# How peers are held to the instruction set that FASTNCE_ISA names; without an entry they choose for themselves.
PEERS_ISA = {
    "avx2": {
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "ATEN_CPU_CAPABILITY": "avx2",
        "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
    }
}


@dataclass(frozen=True)
class Conditions:
    """What every worker of a run has in common."""

    venvs: Path
    threads: int
    allocator: str
    isa: str | None

    def facts(self) -> dict[str, Any]:
        """What results should say about it."""
        return {"threads": self.threads, "allocator": self.allocator, "isa": self.isa}

    def environment(self) -> dict[str, str]:
        # Idle threads spin for a while and then sleep, as each library's users get it: forcing either would
        # favour one of them. Only Intel's OpenMP spins for 200 ms, far longer than the pause between turns.
        defaults = {"KMP_BLOCKTIME": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}
        counts = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PJRT_NPROC")
        settings = dict.fromkeys(counts, str(self.threads)) | ALLOCATORS[self.allocator]
        if self.isa is not None:
            settings |= {"FASTNCE_ISA": self.isa, **PEERS_ISA.get(self.isa, {})}
        return {**defaults, **os.environ, **settings}


class WorkerError(RuntimeError):
    """A worker could not start, died, or answered with a traceback."""


class Process:
    """A worker by its command. `versions` holds what it said of itself when it started."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str]) -> None:
        self.name = name
        if not Path(command[0]).exists():
            raise WorkerError(f"no interpreter at {command[0]}")
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
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


class WorkerClient(Process):
    """A worker of one of the members."""

    def __init__(self, name: str, conditions: Conditions) -> None:
        member = EVERYBODY[name]
        python = conditions.venvs / member.environment / "bin" / "python" if member.environment else sys.executable
        command = [str(python), str(HERE / "worker.py"), str(conditions.threads), *member.adapter]
        super().__init__(name, command, conditions.environment())
        self.loss = member.loss

    def prepare(self, shape: Shape) -> dict[str, Any]:
        """Build the problem and warm up: seconds of a warm call, and the mean loss."""
        return self.ask("prepare", shape=asdict(shape), loss=self.loss)

    def extra_memory(self, shape: Shape) -> dict[str, Any]:
        """Extra peak memory of one call; for a worker that has done nothing else (see memory.py)."""
        return self.ask("memory", shape=asdict(shape), loss=self.loss)
