"""A contender whose step is captured in a CUDA graph once and replayed."""

from __future__ import annotations

from typing import Any

import torch

from contender import Contender, Outputs, Tolerance
from problems import Candidates


class Captured(Contender):
    """Replays the step of one batch; where the seed comes from the host, all replays draw the same ids."""

    def __init__(self, inner: Contender) -> None:
        super().__init__(inner.problem, inner.level)
        self._inner = inner
        self.kind = f"{inner.kind} graph"
        inner.enter()
        self._graph, self._result = self._capture(None)

    @property
    def tolerance(self) -> Tolerance:
        return self._inner.tolerance

    def _capture(self, candidates: Candidates | None) -> tuple[torch.cuda.CUDAGraph, Any]:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self._inner.step(0, candidates)
        torch.cuda.current_stream().wait_stream(stream)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            result = self._inner.step(0, candidates)
        return graph, result

    def step(self, batch: int, candidates: Candidates | None = None) -> Any:
        if candidates is None:
            self._graph.replay()
            return self._result
        graph, result = self._capture(candidates)
        # So that only what the replay writes can pass the check.
        for tensor in self._inner.outputs(result) or ():
            if tensor is not None:
                tensor.fill_(float("nan") if tensor.is_floating_point() else -1)
        graph.replay()
        torch.cuda.synchronize()
        outputs = self._inner.outputs(result)
        # Clones outlive the memory of this graph.
        return None if outputs is None else Outputs(*(None if tensor is None else tensor.clone() for tensor in outputs))

    def outputs(self, result: Any) -> Outputs | None:
        return result if isinstance(result, Outputs) else self._inner.outputs(result)
