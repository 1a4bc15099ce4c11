"""A limit, not a peer: MKL's three bare matrix products, rows already gathered and outputs allocated."""

from __future__ import annotations

import re
from typing import Any

import torch

from protocol import Adapter
from shapes import Candidates, Case


class Peer(Adapter):
    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        if not torch.backends.mkl.is_available():
            raise RuntimeError("this PyTorch was built without MKL")
        torch.set_num_threads(threads)

    def versions(self) -> dict[str, Any]:
        mkl = re.search(r"Math Kernel Library Version ([\w.]+)", torch.__config__.show())
        return {"torch": torch.__version__, "mkl": mkl and mkl[1]}

    def prepare(self, case: Case) -> None:
        shape = case.shape
        self._inputs = [torch.from_numpy(inputs) for _, inputs in case.batches]
        self._rows = torch.rand(shape.S, shape.D).sub_(0.5)
        self._logits = torch.empty(shape.B, shape.S)
        self._dx = torch.empty(shape.B, shape.D)
        self._drows = torch.empty(shape.S, shape.D)

    def step(self, batch: int, candidates: Candidates | None = None) -> Any:
        inputs = self._inputs[batch]
        torch.mm(inputs, self._rows.t(), out=self._logits)
        # The logits stand in for dL/dlogits: a fused loss would overwrite them in place, too.
        torch.mm(self._logits, self._rows, out=self._dx)
        torch.mm(self._logits.t(), inputs, out=self._drows)
