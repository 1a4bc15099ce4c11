"""JAX: one jitted function for all of it, hand-written: rows gathered first, gradients of the few rows, coalesced.

Samples are drawn with replacement, in float32 as JAX goes by default: that shifts some ids of large V by a few, which
costs nothing. Sizes are static, so that there are as many row gradients as ids, the unused ones at the end with id V.

Measured and not reliably better: sorting the ids and adding up rows in order; softplus from log1p and exp.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from protocol import Adapter, Outputs
from shapes import NCE, SOFTMAX, Candidates, Case

Array = jax.Array


class Peer(Adapter):
    """XLA's thread pool takes its size from PJRT_NPROC, which the orchestrator sets."""

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_default_matmul_precision", "highest")

    def versions(self) -> dict[str, Any]:
        return {"jax": jax.__version__, "jaxlib": jax.lib.__version__}

    def prepare(self, case: Case) -> None:
        S, V = case.shape.S, case.shape.V
        self._tables = tuple(map(jnp.asarray, case.table()))
        self._batches = [(jnp.asarray(y.ravel(), jnp.int32), jnp.asarray(x)) for y, x in case.batches]
        self._key, self._calls = jax.random.key(0), itertools.count()
        self._num_classes = V
        log_range = float(np.log1p(V))
        given_step = partial(loss_and_grad, LOSSES[case.loss])

        def log_count(ids: Array) -> Array:
            return jnp.log(S / log_range * jnp.log1p(1 / (ids + 1.0)))

        @jax.jit
        def sampling_step(weights: Array, biases: Array, labels: Array, inputs: Array, key: Array, call: int) -> Any:
            uniform = jax.random.uniform(jax.random.fold_in(key, call), (S,))
            # exp() may round up to V + 1.
            sampled = jnp.minimum(jnp.exp(uniform * log_range).astype(jnp.int32) - 1, V - 1)
            return given_step(weights, biases, labels, inputs, sampled, log_count(labels), log_count(sampled))

        self._sampling_step, self._given_step = sampling_step, jax.jit(given_step)

    def step(self, batch: int, candidates: Candidates | None = None) -> Any:
        if candidates is None:
            result = self._sampling_step(*self._tables, *self._batches[batch], self._key, next(self._calls))
        else:
            ids, true_counts, sampled_counts = candidates
            log_counts = jnp.log(true_counts.ravel()), jnp.log(sampled_counts)
            result = self._given_step(*self._tables, *self._batches[batch], jnp.asarray(ids, jnp.int32), *log_counts)
        return jax.block_until_ready(result)

    def outputs(self, result: Any) -> Outputs:
        loss, dx, ids, dw, db = map(np.asarray, result)
        n = int(np.searchsorted(ids, self._num_classes))
        return Outputs(loss, dx, ids[:n].astype(np.int64), dw[:n], db[:n])


def nce_loss(u: Array, v: Array, _labels: Array, _sampled: Array) -> Array:
    return (jax.nn.softplus(u) - u / u.shape[1]).sum(1) + jax.nn.softplus(v).sum(1)


def sampled_softmax_loss(u: Array, v: Array, labels: Array, sampled: Array) -> Array:
    hits = (labels.reshape(*u.shape, 1) == sampled).any(1)
    logits = jnp.concatenate([u, jnp.where(hits, -jnp.inf, v)], 1)
    return jax.nn.logsumexp(logits, 1) - u.mean(1)


LOSSES = {NCE: nce_loss, SOFTMAX: sampled_softmax_loss}


def loss_and_grad(
    loss_of_logits: Callable[..., Array],
    weights: Array,
    biases: Array,
    labels: Array,
    inputs: Array,
    sampled: Array,
    log_true: Array,
    log_sampled: Array,
) -> tuple[Array, ...]:
    """Loss [B], dX [B, D], and B T + S row gradients: ids ascending, then V; labels [B T] are flat."""
    (B, D), T = inputs.shape, len(labels) // len(inputs)

    def total(inputs: Array, true: tuple[Array, Array], noise: tuple[Array, Array]) -> tuple[Array, Array]:
        true_rows, true_shift = true
        sampled_rows, sampled_shift = noise
        u = jnp.einsum("bd,btd->bt", inputs, true_rows.reshape(B, T, D)) + true_shift.reshape(B, T)
        v = inputs @ sampled_rows.T + sampled_shift
        loss = loss_of_logits(u, v, labels, sampled)
        return loss.sum(), loss

    # The gradient of a bias is that of bias - log Q, which saves an operation per logit.
    true = weights[labels], biases[labels] - log_true
    noise = weights[sampled], biases[sampled] - log_sampled
    (_, loss), (dx, dtrue, dnoise) = jax.value_and_grad(total, (0, 1, 2), has_aux=True)(inputs, true, noise)

    n = len(labels) + len(sampled)
    every = jnp.concatenate([labels, sampled])
    ids, row = jnp.unique(every, return_inverse=True, size=n, fill_value=len(weights))
    dw, db = (jax.ops.segment_sum(jnp.concatenate(pair), row, n) for pair in zip(dtrue, dnoise, strict=True))
    return loss, dx, ids, dw, db
