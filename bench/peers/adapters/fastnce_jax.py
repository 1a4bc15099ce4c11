"""fastnce.jax: ``nce_value_and_rows`` under jit, ids from a key; rows are padded."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fastnce
import fastnce.jax
from protocol import Adapter, Outputs
from shapes import Candidates, Case


class Peer(Adapter):
    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        jax.config.update("jax_platforms", "cpu")
        fastnce.set_num_threads(threads)

    def versions(self) -> dict[str, Any]:
        return {"jax": jax.__version__, "jaxlib": jax.lib.__version__}

    def prepare(self, case: Case) -> None:
        shape = case.shape
        self._tables = tuple(map(jnp.asarray, case.table()))
        self._batches = [(jnp.asarray(y, jnp.int32), jnp.asarray(x)) for y, x in case.batches]
        self._keys = map(np.uint32, itertools.count())

        def step(weights: Any, biases: Any, labels: Any, inputs: Any, number: Any, sampled: Any) -> Any:
            key = None if sampled is not None else jnp.stack([jnp.uint32(1), number])
            return fastnce.jax.nce_value_and_rows(
                weights, biases, labels, inputs, shape.S, shape.V, shape.T, sampled, key=key
            )

        self._step = jax.jit(step)

    def step(self, batch: int, candidates: Candidates | None = None) -> Any:
        return jax.block_until_ready(self._step(*self._tables, *self._batches[batch], next(self._keys), candidates))

    def outputs(self, result: Any) -> Outputs:
        loss, dx, rows = result
        ids, dw, db = map(np.asarray, rows)
        n = len(np.unique(ids))
        return Outputs(np.asarray(loss), np.asarray(dx), ids[:n].astype(np.int64), dw[:n], db[:n])
